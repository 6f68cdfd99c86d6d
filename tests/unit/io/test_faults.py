"""Every file fault is a generated file; each is refused in one line that names it."""

import gzip
import os
import struct
import time

import h5py
import mrcfile
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from cellseg3d.core.errors import (
    AxisError,
    CellSegError,
    EnvironmentFault,
    FormatError,
    LabelError,
    NonFiniteError,
    SpacingError,
)
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.check import check_volume
from cellseg3d.io.registry import (
    list_volumes,
    open_volume,
    read_labels,
    read_volume,
    write_volume,
)

SPACING = Spacing(0.05, 0.03, 0.03)


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    return rng.integers(1, 60000, (24, 20, 18)).astype(np.uint16)


def refusal(path, error=FormatError, **options):
    """Return the one line with which a path is refused, by both readers."""
    lines = []
    for reader in (check_volume, read_volume):
        began = time.monotonic()
        with pytest.raises(error) as caught:
            reader(path, **options)
        assert time.monotonic() - began < 5
        lines.append(str(caught.value))
    for line in lines:
        assert "\n" not in line
        assert str(path).partition("::")[0] in line
    return lines[0]


def cut(path, share):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(size * share))


@pytest.mark.parametrize(
    "suffix", [".tif", ".ome.tif", ".nii", ".nii.gz", ".mrc", ".h5"]
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_cut_file_is_refused(tmp_path, image, suffix, share):
    path = write_volume(tmp_path / f"cell{suffix}", Volume(image, SPACING))

    cut(path, share)

    assert "copy it again" in refusal(path) or share == 0.02


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"metadata": None}])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_tiff_of_many_pages_is_refused(tmp_path, image, options, share):
    path = tmp_path / "cell.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane in image:
            tif.write(plane, contiguous=False, **options)

    cut(path, share)

    assert "copy" in refusal(path)


def test_a_png_cut_short_is_refused(tmp_path, image):
    path = write_volume(tmp_path / "cell.png", Volume(image[:1]))

    cut(path, 0.6)

    assert "copy it again" in refusal(path)


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_flipped_bit_in_a_packed_nifti_is_refused(tmp_path, image, at):
    path = write_volume(tmp_path / "cell.nii.gz", Volume(image))
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 4
    path.write_bytes(data)

    assert "damaged" in refusal(path)


def test_an_imagej_header_that_promises_more_pages_is_refused(tmp_path, image):
    path = tmp_path / "cell.tif"
    description = "ImageJ=1.53t\nimages=48\nslices=48\n"
    with tifffile.TiffWriter(path) as tif:
        for plane in image:
            tif.write(plane, description=description, metadata=None, contiguous=False)

    line = refusal(path)

    assert "48" in line
    assert "24" in line


def test_an_ome_header_that_promises_more_pages_is_refused(tmp_path, image):
    path = tmp_path / "cell.ome.tif"
    tifffile.imwrite(
        path, image, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    tifffile.tiffcomment(path, xml.replace('SizeZ="24"', 'SizeZ="48"').encode())

    line = refusal(path)

    assert "48" in line
    assert "24" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"II*\0", "TIFF"),
        (b"PK\x03\x04 zip", "zip"),
    ],
)
@pytest.mark.parametrize("suffix", [".tif", ".nii", ".nii.gz", ".mrc", ".h5", ".png"])
def test_what_is_no_volume_is_named(tmp_path, content, words, suffix):
    path = tmp_path / f"cell{suffix}"
    path.write_bytes(content)

    line = refusal(path)

    assert words in line or (suffix == ".tif" and content == b"II*\0")


def test_a_wrong_suffix_is_answered_with_the_true_format(tmp_path, image):
    mrc = write_volume(tmp_path / "a.mrc", Volume(image))
    gz = write_volume(tmp_path / "b.nii.gz", Volume(image))
    tif = write_volume(tmp_path / "c.tif", Volume(image))

    assert "MRC" in refusal(mrc.rename(tmp_path / "a.tif"))
    assert "gzip" in refusal(gz.rename(tmp_path / "b.nii"))
    assert "TIFF" in refusal(tif.rename(tmp_path / "c.h5"))
    assert "TIFF, not .jpg" in refusal((tmp_path / "c.h5").rename(tmp_path / "c.jpg"))


@pytest.mark.parametrize(
    "suffix", [".tif", ".ome.tif", ".nii", ".nii.gz", ".mrc", ".h5", ".zarr"]
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted_and_placed(tmp_path, suffix, value):
    image = np.ones((6, 7, 8), np.float32)
    image[3, 2, 1] = image[3, 2, 5] = image[5, 0, 0] = value
    path = write_volume(tmp_path / f"cell{suffix}", Volume(image))

    line = refusal(path, NonFiniteError)

    assert "3 voxels" in line
    assert "(z=3, y=2, x=1)" in line


def test_a_double_that_no_network_can_hold_is_refused(tmp_path):
    image = np.ones((3, 4, 5))
    image[1, 2, 3] = 1e300
    path = write_volume(tmp_path / "cell.tif", Volume(image))

    assert "(z=1, y=2, x=3)" in refusal(path, NonFiniteError)


def test_a_constant_volume_is_warned_of(tmp_path):
    path = write_volume(tmp_path / "cell.mrc", Volume(np.full((3, 4, 5), 7, np.int16)))

    findings = check_volume(path)

    assert any("every voxel is 7" in warning for warning in findings.warnings)


def test_colours_are_refused_unless_one_is_picked(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (4, 20, 30, 3)).astype(np.uint8)
    tif, png = tmp_path / "cell.tif", tmp_path / "cell.png"
    tifffile.imwrite(tif, rgb, photometric="rgb")
    Image.fromarray(rgb[0]).save(png)

    for path in (tif, png):
        line = refusal(path, AxisError)
        assert "3 channels" in line
        assert "`channel` (0..2)" in line
    np.testing.assert_array_equal(read_volume(tif, channel=1).array, rgb[..., 1])
    np.testing.assert_array_equal(read_volume(png, channel=2).array, rgb[:1, ..., 2])


@pytest.mark.parametrize(
    ("axes", "shape", "name"),
    [
        ("CZYX", (2, 4, 20, 30), "channels"),
        ("TZYX", (3, 4, 20, 30), "time points"),
        ("ZCYX", (4, 2, 20, 30), "channels"),
    ],
)
@pytest.mark.parametrize("kind", ["imagej", "ome", "plain", "packed"])
def test_several_channels_or_times_are_refused_unless_one_is_picked(
    tmp_path, axes, shape, name, kind
):
    image = np.random.default_rng(0).integers(0, 60000, shape).astype(np.uint16)
    path = tmp_path / "cell.tif"
    if kind == "imagej":  # ImageJ knows one order alone
        order = [axes.index(letter) for letter in "TZCYX" if letter in axes]
        ordered = "".join(axes[index] for index in order)
        tifffile.imwrite(
            path, image.transpose(order), imagej=True, metadata={"axes": ordered}
        )
    else:
        options = {"compression": "zlib"} if kind == "packed" else {}
        tifffile.imwrite(
            path,
            image,
            ome=kind == "ome",
            metadata={"axes": axes},
            photometric="minisblack",
            **options,
        )

    line = refusal(path, AxisError)

    assert name in line
    option = "time" if name == "time points" else "channel"
    assert f"`{option}` (0.." in line
    picked = image.take(1, axis=axes.index(name[0].upper()))
    np.testing.assert_array_equal(read_volume(path, channel=1).array, picked)
    assert "does not exist" in refusal(path, AxisError, channel=9)


def test_a_channel_of_a_file_without_channels_is_refused(tmp_path, image):
    path = write_volume(tmp_path / "cell.tif", Volume(image))

    assert "one channel" in refusal(path, AxisError, channel=1)


def test_a_nifti_of_four_axes_is_refused_unless_one_is_picked(tmp_path):
    image = np.arange(5 * 4 * 3 * 2, dtype=np.int16).reshape(5, 4, 3, 2)
    path = tmp_path / "cell.nii"
    nib.save(nib.Nifti1Image(image, np.diag([0.1, 0.1, 0.1, 1])), path)

    assert "2 time points" in refusal(path, AxisError)
    np.testing.assert_array_equal(read_volume(path, channel=1).array, image[..., 1].T)


def test_pages_of_two_sizes_are_refused_with_the_page(tmp_path):
    path = tmp_path / "cell.tif"
    with tifffile.TiffWriter(path) as tif:
        for page in range(6):
            tif.write(
                np.zeros((20, 18 if page != 4 else 17), np.uint8),
                metadata=None,
                contiguous=False,
            )

    assert "page 4" in refusal(path)


def test_a_loop_in_the_page_chain_is_refused(tmp_path, image):
    path = tmp_path / "cell.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane in image[:4]:
            tif.write(plane, metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tif:
        first, last = tif.pages[0].offset, tif.pages[3].offset
    data = bytearray(path.read_bytes())
    entries = struct.unpack_from("<H", data, last)[0]
    struct.pack_into("<I", data, last + 2 + 12 * entries, first)
    path.write_bytes(data)

    assert "loop" in refusal(path)


def mrc_with(path, image, **fields):
    with mrcfile.new(path, image, overwrite=True) as mrc:
        for name, value in fields.items():
            mrc.header[name] = value
    return path


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"mode": 99}, "MODE"),
        ({"mode": 4}, "MODE"),
        ({"nx": -5}, "NX"),
        ({"ny": 0}, "NY"),
        ({"nsymbt": -1}, "NSYMBT"),
        ({"mapc": 3}, "MAPC"),
    ],
)
def test_an_mrc_field_that_makes_no_sense_is_named(tmp_path, image, fields, name):
    path = mrc_with(tmp_path / "cell.mrc", image.astype(np.int16))
    with path.open("r+b") as file:
        header = np.frombuffer(file.read(1024), mrcfile.dtypes.HEADER_DTYPE).copy()
        for field, value in fields.items():
            header[field] = value
        file.seek(0)
        file.write(header.tobytes())

    assert name in refusal(path)


def test_a_volume_of_an_mrc_stack_is_chosen_like_a_time_point(tmp_path, image):
    stored = image.astype(np.int16)
    path = mrc_with(tmp_path / "cell.mrc", stored, ispg=401, mz=6)

    assert "4 time points" in refusal(path, AxisError)
    np.testing.assert_array_equal(
        read_volume(path, channel=2).read(),
        read_volume(path, read_as="slices").read()[12:18],
    )


@pytest.mark.parametrize("cell", [0.0, np.nan])
def test_an_mrc_without_a_cell_has_an_unknown_spacing(tmp_path, image, cell):
    path = mrc_with(tmp_path / "cell.mrc", image.astype(np.int16))
    with path.open("r+b") as file:
        file.seek(40)
        file.write(struct.pack("<3f", cell, cell, cell))

    findings = check_volume(path)

    assert findings.volume.spacing is None
    assert any("unknown" in warning for warning in findings.warnings)


def test_bytes_after_the_last_voxel_are_warned_of(tmp_path, image):
    path = write_volume(tmp_path / "cell.mrc", Volume(image))
    with path.open("ab") as file:
        file.write(b"\0" * 720)

    warnings = check_volume(path).warnings
    assert any("720 unknown bytes" in warning for warning in warnings)


def test_a_nifti_affine_of_zeros_is_refused_unless_a_spacing_is_given(tmp_path):
    image = nib.Nifti1Image(np.ones((4, 3, 2), np.int16), np.eye(4))
    image.header.set_sform(np.diag([0.0, 0, 0, 1]), code=1)
    image.header.set_qform(None, code=0)
    path = tmp_path / "cell.nii"
    with path.open("wb") as file:
        image.header.set_data_offset(352)
        image.header["magic"] = b"n+1"
        image.header.write_to(file)
        file.seek(352)
        file.write(np.ones((4, 3, 2), np.int16).tobytes())

    assert "`spacing_um`" in refusal(path, SpacingError)
    assert read_volume(path, spacing=(1, 2, 3)).spacing == Spacing(1, 2, 3)


@pytest.mark.parametrize("make", ["fifo", "dangling", "missing", "empty folder"])
def test_what_cannot_be_read_is_refused_at_once(tmp_path, make):
    path = tmp_path / "cell.tif"
    if make == "fifo":
        os.mkfifo(path)
    elif make == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif make == "empty folder":
        path.mkdir()
    began = time.monotonic()

    refusal(path, CellSegError)

    assert time.monotonic() - began < 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path, image):
    path = write_volume(tmp_path / "cell.tif", Volume(image))
    path.chmod(0)

    assert "permission" in refusal(path, EnvironmentFault)


def test_a_folder_without_volumes_says_what_it_looked_for(tmp_path):
    with pytest.raises(FormatError, match=r"looked for .*\.tif"):
        list_volumes(tmp_path)


def test_a_packed_nifti_bomb_is_refused_before_it_is_unpacked(tmp_path):
    header = nib.Nifti2Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((100_000, 100_000, 10_000))
    header.set_data_offset(544)
    header["magic"] = b"n+2"
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb") as file:
        file.write(header.binaryblock + b"\0" * 2000)

    line = refusal(path, CellSegError)

    assert "available" in line


def test_a_packed_nifti_that_unpacks_to_more_than_it_says_is_refused(tmp_path, image):
    path = write_volume(tmp_path / "cell.nii.gz", Volume(image))
    with gzip.open(path, "ab", compresslevel=9) as file:
        file.write(bytes(2**25))

    assert "more than" in refusal(path)


def test_bombs_of_other_formats_are_refused_with_both_sizes(tmp_path):
    shape = (50_000, 50_000, 10_000)
    h5 = tmp_path / "bomb.h5"
    with h5py.File(h5, "w") as file:
        file.create_dataset("raw", shape, "f8", chunks=(64, 64, 64))
    store = tmp_path / "bomb.zarr"
    zarr.create_array(store, shape=shape, chunks=(64, 64, 64), dtype="f8")
    tif = tmp_path / "bomb.tif"
    tifffile.imwrite(
        tif, np.zeros((16, 16), np.uint8), compression="zlib", metadata=None
    )
    with tifffile.TiffFile(tif, mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(2_000_000, dtype="I")

    for path in (h5, store, tif):
        assert "available" in refusal(path, CellSegError)


def test_a_chunk_larger_than_memory_is_refused(tmp_path):
    path = tmp_path / "bomb.zarr"
    zarr.create_array(path, shape=(4, 4, 4), chunks=(10**5, 10**5, 10**3), dtype="f8")

    assert "available" in refusal(path, EnvironmentFault)


def test_hdf5_data_in_another_file_are_refused(tmp_path, image):
    outside = tmp_path / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["raw"] = image
    link, storage, virtual = (tmp_path / f"{name}.h5" for name in ("a", "b", "c"))
    with h5py.File(link, "w") as file:
        file["raw"] = h5py.ExternalLink(str(outside), "raw")
    with h5py.File(storage, "w") as file:
        file.create_dataset("raw", (2, 3, 4), "u1", external=[(str(outside), 0, 24)])
    layout = h5py.VirtualLayout(image.shape, image.dtype)
    layout[:] = h5py.VirtualSource(outside, "raw", image.shape)
    with h5py.File(virtual, "w") as file:
        file.create_virtual_dataset("raw", layout)

    for path in (link, storage, virtual):
        assert "another file" in refusal(path)
    assert "another file" in refusal(f"{link}::raw")


def test_an_ome_header_that_points_to_another_file_is_refused(tmp_path, image):
    path = tmp_path / "cell.ome.tif"
    tifffile.imwrite(
        path, image, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    pointed = xml.replace(
        "</Pixels>",
        '<TiffData><UUID FileName="../other.ome.tif">urn:uuid:0</UUID></TiffData>'
        "</Pixels>",
    )
    tifffile.tiffcomment(path, pointed.encode())

    assert "another file" in refusal(path)


def test_missing_zarr_chunks_are_counted_and_refused_on_demand(tmp_path, image):
    path = write_volume(tmp_path / "cell.zarr", Volume(image))
    (path / "0" / "c" / "0" / "0" / "0").unlink()

    findings = check_volume(path)

    assert any("1 of 1 chunks" in warning for warning in findings.warnings)
    with pytest.raises(FormatError, match="1 of 1 chunks"):
        check_volume(path, require_complete=True)


def test_missing_hdf5_chunks_are_counted(tmp_path, image):
    path = tmp_path / "cell.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("raw", (24, 20, 18), "u2", chunks=(12, 20, 18))
        data[:12] = image[:12]

    findings = check_volume(path)

    assert any("1 of 2 chunks" in warning for warning in findings.warnings)


@pytest.mark.parametrize("version", [2, 3])
def test_a_corrupt_zarr_chunk_is_named(tmp_path, version):
    image = np.random.default_rng(0).integers(0, 9, (8, 8, 8)).astype(np.uint16)
    path = tmp_path / "cell.zarr"
    array = zarr.create_array(
        path, shape=image.shape, chunks=(4, 8, 8), dtype="u2", zarr_format=version
    )
    array[:] = image
    chunk = path / ("1.0.0" if version == 2 else "c/1/0/0")
    chunk.write_bytes(chunk.read_bytes()[:20])

    assert ("1.0.0" if version == 2 else "c/1/0/0") in refusal(path)


def test_a_flipped_bit_in_our_own_zarr_is_found(tmp_path, image):
    path = write_volume(tmp_path / "cell.zarr", Volume(image))
    chunk = path / "0" / "c" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 8
    chunk.write_bytes(data)

    assert "c/0/0/0" in refusal(path)


def test_two_datasets_are_asked_about(tmp_path, image):
    path = tmp_path / "cell.h5"
    with h5py.File(path, "w") as file:
        file["first"], file["labels/nuclei"] = image, image

    line = refusal(path)

    assert "first" in line
    assert "labels/nuclei" in line
    assert "cell.h5::" in line
    np.testing.assert_array_equal(read_volume(f"{path}::labels/nuclei").array, image)
    assert "nothing" in refusal(f"{path}::nothing")


def test_labels_that_are_no_integers_or_negative_are_refused(tmp_path):
    labels = np.zeros((2, 3, 4), np.float32)
    labels[1, 1, 1] = 0.5
    smooth = write_volume(tmp_path / "smooth.tif", Volume(labels))
    below = write_volume(
        tmp_path / "below.tif", Volume(np.full((2, 3, 4), -1, np.int16))
    )

    with pytest.raises(LabelError, match=r"smooth\.tif: 1 label values .* 0\.5"):
        read_labels(smooth)
    with pytest.raises(LabelError, match="-1"):
        read_labels(below)


@pytest.mark.parametrize(
    "name", ["line\nbreak.tif", "[glob]*.tif", "-rf.tif", "µ界.tif", "a::b.tif"]
)
def test_odd_names_are_read_and_listed(tmp_path, image, name):
    path = write_volume(tmp_path / name, Volume(image))

    np.testing.assert_array_equal(open_volume(path).read(), image)
    assert list_volumes(tmp_path) == [path]


def test_one_byte_changed_anywhere_never_ends_in_another_error(tmp_path):
    image = np.random.default_rng(0).integers(0, 99, (3, 6, 5)).astype(np.uint8)
    rng = np.random.default_rng(1)
    suffixes = (".tif", ".ome.tif", ".nii", ".nii.gz", ".mrc", ".h5", ".png")
    for suffix in suffixes:
        whole = write_volume(
            tmp_path / f"whole{suffix}",
            Volume(image if suffix != ".png" else image[:1], SPACING),
        ).read_bytes()
        path = tmp_path / f"changed{suffix}"
        for _ in range(60):
            data = bytearray(whole)
            data[int(rng.integers(min(len(data), 3000)))] = int(rng.integers(256))
            path.write_bytes(data)
            try:
                check_volume(path)
            except CellSegError as error:
                assert str(path) in str(error) or "spacing" in str(error)  # noqa: PT017

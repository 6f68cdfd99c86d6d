"""What is read is what the file holds, or a refusal that says what is odd."""

import io
import os
import struct
import subprocess
import sys
import uuid
import warnings
from pathlib import Path

import h5py
import mrcfile
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr

from cellseg3d.core.errors import (
    AxisError,
    ConfigError,
    EnvironmentFault,
    FormatError,
)
from cellseg3d.core.spacing import Spacing
from cellseg3d.io.damage import reading
from cellseg3d.io.registry import open_volume, read_labels, read_volume

STACK = np.arange(256, dtype="u1").reshape(4, 8, 8)
BLACK = {"photometric": "minisblack"}


def warnings_of(path, **options):
    return list(open_volume(path, **options).provenance.get("warnings", ()))


# --- pages


@pytest.mark.parametrize("kind", ["imagej", "ome", "plain"])
@pytest.mark.parametrize("promised", [2, 3, 5, 8])
def test_pages_beyond_the_header_are_as_wrong_as_missing_ones(tmp_path, kind, promised):
    path = tmp_path / "a.tif"
    how = {"imagej": kind == "imagej", "ome": kind == "ome"}
    axes = {"axes": "ZYX"}
    tifffile.imwrite(path, STACK, metadata=axes, **BLACK, compression="zlib", **how)
    words = {
        "imagej": ("images=4", f"images={promised}"),
        "ome": ('SizeZ="4"', f'SizeZ="{promised}"'),
        "plain": ('"shape": [4,', f'"shape": [{promised},'),
    }[kind]
    data = path.read_bytes()
    assert words[0].encode() in data or kind == "plain"
    old, new = (word.encode() for word in words)
    if kind == "plain":
        old, new = b"[4, 8, 8]", f"[{promised}, 8, 8]".encode()
    path.write_bytes(data.replace(old, new))

    with pytest.raises(FormatError, match=f"states.*{promised}.*4|4.*{promised}"):
        open_volume(path)


def test_a_renamed_ome_tiff_is_still_complete(tmp_path):
    own = f"urn:uuid:{uuid.uuid4()}"
    path = tmp_path / "renamed.ome.tif"
    path.write_bytes(bio_formats(STACK, own, own, "before.ome.tif"))

    np.testing.assert_array_equal(read_volume(path).read(), STACK)

    path.write_bytes(bio_formats(STACK, own, "urn:uuid:other", "before.ome.tif"))
    with pytest.raises(FormatError, match=r"another file \(before\.ome\.tif\)"):
        open_volume(path)


def test_a_plane_without_tiffdata_is_named(tmp_path):
    own = f"urn:uuid:{uuid.uuid4()}"
    path = tmp_path / "a.ome.tif"
    path.write_bytes(bio_formats(STACK, own, own, "a.ome.tif", planes=(0, 1, 3)))

    with pytest.raises(FormatError, match=r"1 of 4 slices lie \(the first is 2\)"):
        open_volume(path)


def bio_formats(stack, own, of_planes, name, planes=(0, 1, 2, 3)):
    """Return an OME-TIFF whose header names each plane's file and UUID."""
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="{z}" PlaneCount="1">'
        f'<UUID FileName="{name}">{of_planes}</UUID></TiffData>'
        for z in planes
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        f'2016-06" UUID="{own}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" SizeZ="4" SizeC="1" '
        'SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f"{data}</Pixels></Image></OME>"
    )
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=False) as writer:
        for z, plane in enumerate(stack):
            text = xml if z == 0 else None
            writer.write(plane, description=text, metadata=None, **BLACK)
    return file.getvalue()


# --- meaning of numbers


def test_white_is_zero_is_inverted_for_bits_and_told_for_others(tmp_path):
    bits, grey = tmp_path / "bits.tif", tmp_path / "grey.tif"
    tifffile.imwrite(bits, np.zeros((1, 8, 8), bool), photometric="miniswhite")
    tifffile.imwrite(grey, STACK, photometric="miniswhite")

    assert np.unique(read_volume(bits).read()).tolist() == [True]
    np.testing.assert_array_equal(read_volume(grey).read(), STACK)
    assert any("0 means white" in each for each in warnings_of(grey))


def test_a_page_in_colour_among_grey_ones_is_not_read_as_grey(tmp_path):
    image = np.stack([STACK] * 3, -1)
    image[2, 3, 4, 1] += 1
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="rgb")

    with pytest.raises(AxisError, match=r"page 2 is in colour; .* `channel`"):
        read_volume(path)


def test_a_word_for_the_axes_that_is_none_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, **BLACK)

    with pytest.raises(ConfigError, match="`read_as` is 'slice'"):
        open_volume(path, read_as="slice")
    with pytest.raises(AxisError, match="names 4;"):
        open_volume(path, read_as="tzyx")


@pytest.mark.parametrize("suffix", [".h5", ".zarr", ".nii"])
def test_letters_say_what_each_axis_is(tmp_path, suffix):
    image = np.random.default_rng(0).integers(0, 99, (5, 6, 7, 2)).astype("u1")
    path = tmp_path / f"a{suffix}"
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["raw"] = image
    elif suffix == ".zarr":
        zarr.create_array(path, shape=image.shape, dtype="u1")[:] = image
    else:
        nib.save(nib.Nifti1Image(image, np.eye(4)), path)

    found = read_volume(path, read_as="zyxc", channel=1)

    np.testing.assert_array_equal(found.read(), image[..., 1])


# --- spacing


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"unit": "micron"}, (1.0, 0.5, 0.25)),
        ({"unit": "nm"}, (1e-3, 0.5e-3, 0.25e-3)),
        ({"unit": "micron", "spacing": 50.0, "zunit": "nm"}, (0.05, 0.5, 0.25)),
        ({"unit": "micron", "spacing": 2.0, "yunit": "nm"}, (2.0, 0.5e-3, 0.25)),
        ({"unit": "micron", "zunit": "nm"}, (1e-3, 0.5, 0.25)),
    ],
)
def test_an_imagej_depth_has_its_own_unit_and_is_1_when_left_out(
    tmp_path, facts, expected
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, STACK, imagej=True, resolution=(4, 2), metadata={"axes": "ZYX", **facts}
    )

    assert open_volume(path).spacing.is_close(Spacing(*expected), 1e-6)
    told = any("as in ImageJ" in each for each in warnings_of(path))
    assert told == ("spacing" not in facts)


@pytest.mark.parametrize(("edge", "doubted"), [(3.25e-2, True), (3.25, False)])
def test_an_mrc_cell_in_um_is_doubted(tmp_path, edge, doubted):
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(STACK.astype("i2"))
        file.voxel_size = edge

    assert any("implausible" in each for each in warnings_of(path)) == doubted


@pytest.mark.parametrize("kind", ["same", "turned", "zooms"])
def test_two_places_of_a_nifti_that_differ_are_told(tmp_path, kind):
    affine = np.diag([0.002, 0.003, 0.004, 1])
    image = nib.Nifti1Image(STACK.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, 1)
    if kind == "turned":
        image.set_sform(np.diag([-0.002, 0.003, 0.004, 1]), 1)
    elif kind == "zooms":
        image.set_qform(None, 0)
        image.header["pixdim"][1:4] = 1
    path = tmp_path / "a.nii"
    nib.save(image, path)
    if kind == "zooms":
        data = bytearray(path.read_bytes())
        data[80:92] = struct.pack("<3f", 1, 1, 1)
        path.write_bytes(data)

    told = [each for each in warnings_of(path) if "sform" in each]

    assert len(told) == (kind != "same")


def test_the_users_spacing_wins_and_is_said(tmp_path):
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(STACK.astype("i2"))
        file.voxel_size = 1.0

    found = open_volume(path, spacing=(0.05, 0.05, 0.05))

    assert found.spacing == Spacing(0.05, 0.05, 0.05)
    (told,) = found.provenance["told"]
    assert "as you say" in told
    assert "0.0001" in told


# --- containers


def test_a_file_of_an_unknown_suffix_is_what_its_bytes_say(tmp_path):
    path = tmp_path / "tomogram.xyz"
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(STACK.astype("i2"))
    (tmp_path / "a.mrc").rename(path)

    np.testing.assert_array_equal(read_volume(path).read(), STACK)


def test_tables_and_lists_of_points_are_no_volumes(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["image"] = STACK
        file["points"] = np.zeros((9, 3))
        file["table"] = np.zeros((4, 5), dtype=[("id", "i4"), ("x", "f4")])
        file["words"] = np.array([[b"a", b"b"]])

    found = read_volume(path)

    np.testing.assert_array_equal(found.read(), STACK)
    assert found.provenance["inner"] == "image"


def test_the_image_or_the_labels_of_one_file_are_taken_as_they_are_asked_for(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"], file["label"] = STACK, STACK % 3

    np.testing.assert_array_equal(read_volume(path).read(), STACK)
    np.testing.assert_array_equal(read_labels(path).read(), STACK % 3)
    said = "its raw is read, but not label, which it holds as well"
    assert warnings_of(path) == [said]


def test_a_file_that_another_program_writes_is_not_called_damaged(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = STACK
    holding = (
        f"import h5py, sys; f = h5py.File({str(path)!r}, 'r+'); print('open');"
        "sys.stdout.flush(); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE"},
    ) as other:
        other.stdout.readline()
        try:
            with pytest.raises(EnvironmentFault, match="another program") as caught:
                read_volume(path)
        finally:
            other.stdin.close()

    assert "copy it again" not in str(caught.value)


@pytest.mark.parametrize("version", [2, 3])
def test_the_images_of_a_plate_are_named(tmp_path, version):
    path = tmp_path / "plate.zarr"
    root = zarr.create_group(path, zarr_format=version)
    wells = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}]
    put(root, version, plate={"wells": wells, "rows": [{"name": "A"}]})
    well = root.create_group("A/1")
    put(well, version, well={"images": [{"path": "0"}, {"path": "1"}]})
    for name in "01":
        image = well.create_group(name)
        image.create_array("0", shape=STACK.shape, dtype="u1")[:] = STACK
        scales = [{"datasets": [{"path": "0"}], "axes": list("zyx")}]
        put(image, version, multiscales=scales)

    with pytest.raises(FormatError, match=r"plate of 2 images .A/1/0, A/1/1") as caught:
        open_volume(path)

    assert "plate.zarr::A/1/0" in str(caught.value)
    np.testing.assert_array_equal(read_volume(f"{path}::A/1/1").read(), STACK)


def put(group, version, **values):
    """Put OME metadata where a version of OME-Zarr has them."""
    group.attrs.update(values if version == 2 else {"ome": values})


def test_opening_a_zarr_is_silent(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(1,), dtype="u1")
    (path / "README.txt").write_text("mine")
    group = zarr.create_group(tmp_path / "b.zarr")
    group.create_array("image", shape=STACK.shape, dtype="u1")[:] = STACK
    (tmp_path / "b.zarr" / "notes.txt").write_text("mine")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_volume(tmp_path / "b.zarr").read()

    np.testing.assert_array_equal(found, STACK)


# --- mistakes of our own


def test_a_mistake_of_our_own_is_not_called_a_damaged_file(monkeypatch, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, **BLACK)
    monkeypatch.setattr("cellseg3d.io.tiff.volume.spacing_of", lambda *_: STACK.nothing)

    with pytest.raises(AttributeError, match="nothing"):
        open_volume(path)


@pytest.mark.parametrize(
    "cause",
    [
        lambda: tifffile.TiffFile(__file__),
        lambda: zarr.open_array("/nowhere/at/all.zarr", mode="r"),
        lambda: struct.unpack("<4s", b"a"),
        lambda: Path("/nowhere/at/all").read_bytes(),
    ],
)
def test_what_a_library_raises_names_the_file(cause):
    with pytest.raises(FormatError, match=r"a\.tif: .* damaged"), reading("a.tif"):
        cause()

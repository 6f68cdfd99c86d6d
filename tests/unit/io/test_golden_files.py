"""Files that other libraries wrote, in other orders, come out as (z, y, x) in um."""

import json
import struct

import h5py
import mrcfile
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from cellseg3d.core.errors import AxisError, FormatError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import (
    list_volumes,
    open_volume,
    read_labels,
    read_volume,
    write_labels,
    write_volume,
)

SHAPE = (4, 6, 5)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(1, 120, SHAPE).astype(np.int16)


def spacing_of(path, **options):
    return open_volume(path, **options).spacing


# --- TIFF


def test_an_imagej_hyperstack_in_microns(tmp_path, image):
    path = tmp_path / "cell.tif"
    tifffile.imwrite(
        path,
        image.astype(np.uint16),
        imagej=True,
        resolution=(1 / 0.2, 1 / 0.1),
        metadata={"axes": "ZYX", "spacing": 0.5, "unit": "micron"},
    )

    volume = read_volume(path)

    assert volume.spacing.is_close(Spacing(0.5, 0.1, 0.2), 1e-6)
    np.testing.assert_array_equal(volume.array, image)
    assert volume.provenance["format"] == "ImageJ TIFF"


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("nm", 1e-3), ("\\u00B5m", 1.0), ("um", 1.0), ("mm", 1e3), ("cm", 1e4)],
)
def test_an_imagej_unit_is_turned_into_um(tmp_path, image, unit, factor):
    path = tmp_path / "cell.tif"
    tifffile.imwrite(
        path,
        image.astype(np.uint16),
        imagej=True,
        resolution=(1 / 4.0, 1 / 2.0),
        metadata={"axes": "ZYX", "spacing": 3.0, "unit": unit},
    )

    found = spacing_of(path)

    assert found.is_close(Spacing(3 * factor, 2 * factor, 4 * factor), 1e-6)


@pytest.mark.parametrize("metadata", [{}, {"unit": "pixel", "spacing": 2.0}])
def test_an_imagej_file_without_a_length_has_an_unknown_spacing(
    tmp_path, image, metadata
):
    path = tmp_path / "cell.tif"
    tifffile.imwrite(
        path, image.astype(np.uint16), imagej=True, metadata={"axes": "ZYX", **metadata}
    )

    assert spacing_of(path) is None


def test_dots_per_inch_are_no_spacing(tmp_path, image):
    path = tmp_path / "cell.tif"
    tifffile.imwrite(
        path, image, resolution=(72, 72), resolutionunit=2, photometric="minisblack"
    )

    assert spacing_of(path) is None


def test_an_ome_tiff_in_nanometres_stored_zyx_by_x_pages(tmp_path, image):
    path = tmp_path / "cell.ome.tif"
    tifffile.imwrite(
        path,
        image,
        ome=True,
        photometric="minisblack",
        metadata={
            "axes": "ZYX",
            "PhysicalSizeX": 30.0,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.04,
            "PhysicalSizeYUnit": "\u00b5m",
            "PhysicalSizeZ": 500.0,
            "PhysicalSizeZUnit": "\u00c5",
        },
    )

    volume = read_volume(path)

    assert volume.spacing.is_close(Spacing(0.05, 0.04, 0.03), 1e-9)
    np.testing.assert_array_equal(volume.array, image)


def test_an_ome_tiff_without_a_z_edge_says_so(tmp_path, image):
    path = tmp_path / "cell.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
    tifffile.imwrite(path, image, ome=True, photometric="minisblack", metadata=metadata)

    volume = open_volume(path)

    assert volume.spacing is None
    assert "no spacing along z" in volume.provenance["warnings"][0]


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4"])
def test_tiffs_of_every_packing_are_exact(tmp_path, compression, tile, dtype):
    image = (np.random.default_rng(1).random((3, 40, 37)) * 99).astype(dtype)
    path = tmp_path / "cell.tif"
    tifffile.imwrite(
        path, image, compression=compression, tile=tile, photometric="minisblack"
    )

    volume = open_volume(path)

    np.testing.assert_array_equal(volume.read(), image)
    np.testing.assert_array_equal(volume.array[1:, 5:33, 20:], image[1:, 5:33, 20:])


def test_a_tiff_with_a_predictor_is_exact(tmp_path, image):
    path = tmp_path / "cell.tif"
    tifffile.imwrite(
        path, image, compression="zlib", predictor=True, photometric="minisblack"
    )

    np.testing.assert_array_equal(read_volume(path).array, image)


@pytest.mark.parametrize("flavour", ["imagej", "plain"])
def test_one_page_may_stand_for_many_that_follow_it(tmp_path, image, flavour):
    path = tmp_path / "cell.tif"
    if flavour == "plain":
        tifffile.imwrite(path, image, truncate=True, photometric="minisblack")
    else:  # as ImageJ writes beyond 4 GiB
        tifffile.imwrite(
            path, image.astype(np.uint16), imagej=True, metadata={"axes": "ZYX"}
        )
        with tifffile.TiffFile(path) as tif:
            offset, order = tif.pages[0].offset, tif.byteorder
        data = bytearray(path.read_bytes())
        entries = struct.unpack_from(f"{order}H", data, offset)[0]
        struct.pack_into(f"{order}I", data, offset + 2 + 12 * entries, 0)
        path.write_bytes(data)

    np.testing.assert_array_equal(read_volume(path).array, image)

    path.write_bytes(path.read_bytes()[: image.nbytes])
    with pytest.raises(FormatError, match="copy it again"):
        open_volume(path)


def test_one_page_is_a_volume_of_one_slice(tmp_path, image):
    path = tmp_path / "cell.tif"
    tifffile.imwrite(path, image[0])

    assert read_volume(path).shape == (1, 6, 5)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_single_bits(tmp_path, compression):
    bits = np.random.default_rng(0).random((5, 9, 21)) > 0.5
    tifffile.imwrite(
        tmp_path / "mask.tif", bits, compression=compression, photometric="minisblack"
    )

    np.testing.assert_array_equal(read_labels(tmp_path / "mask.tif").array, bits)


def test_colours_in_separate_planes_are_picked(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (4, 3, 16, 15)).astype(np.uint8)
    for options in ({}, {"compression": "zlib"}):
        tifffile.imwrite(
            tmp_path / "cell.tif", image, photometric="rgb", planarconfig=2, **options
        )

        found = read_volume(tmp_path / "cell.tif", channel=2)

        np.testing.assert_array_equal(found.array, image[:, 2])


# --- MRC


def put_mrc(path, stored, order="<", mode=None, extended=b"", **fields):
    """Write an MRC file byte by byte, so that any field may be anything."""
    header = np.zeros((), mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order))
    modes = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}
    kind = f"{stored.dtype.kind}{stored.dtype.itemsize}"
    header["mode"] = modes[kind] if mode is None else mode
    for name, length in zip(("nz", "ny", "nx"), stored.shape, strict=True):
        header[name] = length
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["nsymbt"] = len(extended)
    header["map"] = b"MAP "
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(
        header.tobytes()
        + extended
        + stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    )
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
@pytest.mark.parametrize("extended", [b"", b"x" * 1536])
def test_mrc_of_every_mode_and_byte_order(tmp_path, image, order, dtype, extended):
    stored = image.astype(dtype)
    path = put_mrc(tmp_path / "cell.mrc", stored, order, extended=extended)

    volume = read_volume(path)

    np.testing.assert_array_equal(volume.array, stored)
    assert volume.dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    "mapping", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (1, 3, 2), (2, 3, 1)]
)
def test_mrc_axes_are_put_in_order_with_their_spacing(tmp_path, image, mapping):
    letters = "".join("XYZ"[number - 1] for number in mapping)  # fastest first
    stored = image.transpose(["ZYX".index(letter) for letter in letters[::-1]])
    edges = {"X": 100.0, "Y": 200.0, "Z": 400.0}
    cell = {letter: edges[letter] * SHAPE["ZYX".index(letter)] for letter in "XYZ"}
    z, y, x = SHAPE
    path = put_mrc(
        tmp_path / "cell.mrc",
        np.ascontiguousarray(stored),
        mapc=mapping[0],
        mapr=mapping[1],
        maps=mapping[2],
        mx=x,
        my=y,
        mz=z,
        cella=(cell["X"], cell["Y"], cell["Z"]),
    )

    volume = read_volume(path)

    np.testing.assert_array_equal(volume.array, image)
    assert volume.spacing.is_close(Spacing(0.04, 0.02, 0.01), 1e-6)


def test_mrc_bytes_of_imod_are_unsigned(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    extra = bytearray(np.zeros(100, np.uint8).tobytes())
    extra[96 - 56 : 96 - 56 + 8] = (1146047817).to_bytes(4, "little") + bytes(4)
    header_field = np.frombuffer(bytes(extra[:84]), "V84")[0]
    path = put_mrc(tmp_path / "cell.mrc", image, extra2=header_field)

    np.testing.assert_array_equal(read_volume(path).array, image)


def test_mrc_of_one_angstrom_is_doubted(tmp_path, image):
    z, y, x = SHAPE
    path = put_mrc(
        tmp_path / "cell.mrc",
        image,
        mx=x,
        my=y,
        mz=z,
        cella=(float(x), float(y), float(z)),
    )

    volume = open_volume(path)

    assert volume.spacing == Spacing(1e-4, 1e-4, 1e-4)
    assert "1 angstrom" in volume.provenance["warnings"][0]


def test_mrcfile_reads_what_we_write(tmp_path, image):
    path = write_volume(tmp_path / "cell.mrc", Volume(image, Spacing(0.05, 0.03, 0.02)))

    assert mrcfile.validate(path)
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data, image)
        np.testing.assert_allclose(mrc.voxel_size.tolist(), (200, 300, 500), rtol=1e-6)


# --- NIfTI


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_keeps_its_affine(tmp_path, image, suffix, order):
    affine = np.array(
        [[0, -0.02, 0, 1], [0.01, 0, 0, 2], [0, 0, 0.03, 3], [0, 0, 0, 1]]
    )
    header = nib.Nifti1Header(endianness=order)
    picture = nib.Nifti1Image(image.transpose(2, 1, 0), affine, header)
    picture.header.set_xyzt_units("mm")
    path = tmp_path / f"cell{suffix}"
    nib.save(picture, path)

    volume = read_volume(path)
    again = read_volume(write_labels(tmp_path / f"labels{suffix}", volume))

    np.testing.assert_array_equal(volume.array, image)
    assert volume.spacing.is_close(Spacing(30, 20, 10), 1e-6)
    np.testing.assert_allclose(again.affine_mm, affine, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(again.array, image)


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1e3), ("micron", 1.0), ("meter", 1e6)]
)
def test_nifti_units_are_turned_into_um(tmp_path, image, unit, factor):
    picture = nib.Nifti1Image(image.transpose(2, 1, 0), np.diag([1.0, 2, 3, 1]))
    picture.header.set_xyzt_units(unit)
    path = tmp_path / "cell.nii"
    nib.save(picture, path)

    assert spacing_of(path).is_close(Spacing(3 * factor, 2 * factor, factor), 1e-6)


def test_nifti_without_unit_and_size_has_an_unknown_spacing(tmp_path, image):
    path = tmp_path / "cell.nii"
    nib.save(nib.Nifti1Image(image.transpose(2, 1, 0), np.eye(4)), path)

    assert spacing_of(path) is None


def test_nifti_slope_and_intercept_count(tmp_path, image):
    picture = nib.Nifti1Image(image.transpose(2, 1, 0), np.diag([0.1, 0.1, 0.1, 1]))
    picture.header.set_slope_inter(0.5, -3)
    path = tmp_path / "cell.nii"
    nib.save(picture, path)
    expected = nib.load(path).get_fdata().transpose(2, 1, 0)

    volume = read_volume(path)

    np.testing.assert_array_equal(volume.array, expected)
    assert volume.dtype == np.float64


def test_nifti_of_one_slice(tmp_path, image):
    path = tmp_path / "cell.nii"
    nib.save(nib.Nifti1Image(image[0].T, np.diag([0.1, 0.1, 0.1, 1])), path)

    np.testing.assert_array_equal(read_volume(path).array, image[:1])


def test_nibabel_reads_what_we_write(tmp_path, image):
    path = write_volume(tmp_path / "cell.nii.gz", Volume(image, Spacing(50, 30, 20)))

    picture = nib.load(path)

    np.testing.assert_array_equal(np.asarray(picture.dataobj), image.transpose(2, 1, 0))
    np.testing.assert_allclose(
        picture.header.get_zooms(), (0.02, 0.03, 0.05), rtol=1e-6
    )
    assert picture.header.get_xyzt_units()[0] == "mm"


# --- HDF5


def test_the_only_dataset_is_found_among_small_ones(tmp_path, image):
    path = tmp_path / "cell.h5"
    with h5py.File(path, "w") as file:
        file["deep/inside/raw"] = image
        file["deep/inside/raw"].attrs["element_size_um"] = (0.3, 0.1, 0.2)
        file["meta/spacing"] = np.ones(3)

    volume = read_volume(path)

    np.testing.assert_array_equal(volume.array, image)
    assert volume.spacing == Spacing(0.3, 0.1, 0.2)
    assert volume.provenance["inner"] == "deep/inside/raw"


def test_ilastik_axis_tags_are_obeyed(tmp_path, image):
    path = tmp_path / "cell.h5"
    tags = {"axes": [{"key": key} for key in "xyzc"]}
    with h5py.File(path, "w") as file:
        file["data"] = image.transpose(2, 1, 0)[..., np.newaxis]
        file["data"].attrs["axistags"] = json.dumps(tags)

    np.testing.assert_array_equal(read_volume(path).array, image)


# --- Zarr


def ome(version, axes, scale, unit="micrometer"):
    space = [
        {"name": axis, "type": "space", **({"unit": unit} if unit else {})}
        if axis in "zyx"
        else {"name": axis, "type": "channel" if axis == "c" else "time"}
        for axis in axes
    ]
    move = [{"type": "scale", "scale": scale}]
    half = [{"type": "scale", "scale": [2 * each for each in scale]}]
    image = {
        "axes": space,
        "datasets": [
            {"path": "0", "coordinateTransformations": move},
            {"path": "1", "coordinateTransformations": half},
        ],
    }
    if version == "0.4":
        return {"multiscales": [{**image, "version": "0.4"}]}
    return {"ome": {"version": "0.5", "multiscales": [image]}}


def put_ome(path, image, version, axes="zyx", scale=(0.3, 0.1, 0.2), unit="micrometer"):
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.attrs.update(ome(version, axes, list(scale), unit))
    for level in (0, 1):
        part = image[(..., *(slice(None, None, 2**level),) * 3)]
        array = group.create_array(
            str(level), shape=part.shape, chunks=part.shape, dtype=part.dtype
        )
        array[...] = part
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_and_its_levels(tmp_path, image, version):
    path = put_ome(tmp_path / "cell.zarr", image, version)

    np.testing.assert_array_equal(read_volume(path).array, image)
    np.testing.assert_array_equal(
        read_volume(path, level=1).array, image[::2, ::2, ::2]
    )
    assert spacing_of(path) == Spacing(0.3, 0.1, 0.2)
    assert spacing_of(path, level=1) == Spacing(0.6, 0.2, 0.4)
    with pytest.raises(FormatError, match=r"0\.\.1"):
        open_volume(path, level=2)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_of_five_axes(tmp_path, image, version):
    five = np.stack([image, image + 1])[np.newaxis]
    path = put_ome(
        tmp_path / "cell.zarr",
        five,
        version,
        "tczyx",
        (1, 1, 300, 100, 200),
        "nanometer",
    )

    with pytest.raises(AxisError, match="2 channels"):
        open_volume(path)
    volume = read_volume(path, channel=1)
    np.testing.assert_array_equal(volume.array, image + 1)
    assert volume.spacing.is_close(Spacing(0.3, 0.1, 0.2), 1e-9)


def test_ome_zarr_without_a_unit_has_an_unknown_spacing(tmp_path, image):
    path = put_ome(tmp_path / "cell.zarr", image, "0.4", unit=None)

    volume = open_volume(path)

    assert volume.spacing is None
    assert "no unit" in volume.provenance["warnings"][0]


@pytest.mark.parametrize("version", [2, 3])
def test_a_bare_zarr_array(tmp_path, image, version):
    path = tmp_path / "cell.zarr"
    zarr.create_array(path, data=image, chunks=(2, 3, 5), zarr_format=version)

    volume = read_volume(path)

    np.testing.assert_array_equal(volume.array, image)
    assert volume.spacing is None


def test_an_image_among_several_in_a_zarr_is_named(tmp_path, image):
    path = tmp_path / "cell.zarr"
    zarr.open_group(path, mode="w")
    put_ome(path / "a", image, "0.5")
    put_ome(path / "b", image + 1, "0.5")

    with pytest.raises(FormatError, match=r"2 images \(a, b\)"):
        open_volume(path)
    np.testing.assert_array_equal(read_volume(f"{path}::b").array, image + 1)


def test_zarr_reads_what_we_write(tmp_path):
    image = np.random.default_rng(0).random((150, 40, 30)).astype(np.float32)
    path = write_volume(
        tmp_path / "cell.ome.zarr", Volume(image, Spacing(0.05, 0.03, 0.02))
    )

    group = zarr.open_group(path, mode="r")
    levels = group.attrs["ome"]["multiscales"][0]["datasets"]

    np.testing.assert_array_equal(group["0"][...], image)
    mean = image.reshape(75, 2, 20, 2, 15, 2).mean(axis=(1, 3, 5), dtype=np.float64)
    np.testing.assert_allclose(group["1"][...], mean, rtol=1e-6)
    assert levels[1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [0.1, 0.06, 0.04]},
        {"type": "translation", "translation": [0.025, 0.015, 0.01]},
    ]
    assert group["0"].shards == (192, 40, 30)
    assert group["0"].chunks == (64, 40, 30)


def test_ome_zarr_of_version_4_is_written_as_its_specification_says(tmp_path):
    image = np.random.default_rng(0).random((140, 9, 8)).astype(np.float32)
    path = write_volume(
        tmp_path / "cell.zarr", Volume(image, Spacing(0.3, 0.2, 0.1)), ome_zarr="0.4"
    )

    group = zarr.open_group(path, mode="r", zarr_format=2)
    (multiscales,) = group.attrs["multiscales"]

    assert multiscales["version"] == "0.4"
    assert multiscales["axes"][0] == {
        "name": "z",
        "type": "space",
        "unit": "micrometer",
    }
    assert (
        json.loads((path / "0" / ".zarray").read_text())["dimension_separator"] == "/"
    )
    np.testing.assert_array_equal(group["0"][...], image)
    np.testing.assert_array_equal(read_volume(path).array, image)
    assert read_volume(path, level=1).spacing == Spacing(0.6, 0.4, 0.2)


def test_levels_of_labels_hold_labels_alone(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (140, 9, 9)) * 1000
    path = write_labels(tmp_path / "labels.zarr", Volume(labels))

    level = read_labels(path, level=1)

    np.testing.assert_array_equal(level.array, labels[::2, ::2, ::2])


# --- slices


def test_a_folder_of_slices_is_sorted_as_people_count(tmp_path):
    folder = tmp_path / "cell"
    folder.mkdir()
    image = np.random.default_rng(0).integers(0, 255, (12, 6, 5)).astype(np.uint8)
    for index, plane in enumerate(image):
        Image.fromarray(plane).save(folder / f"s{index}.png")
    (folder / "readme.txt").write_text("not a slice")

    np.testing.assert_array_equal(read_volume(folder).array, image)


def test_a_folder_of_tiff_slices_with_a_gap_is_warned_of(tmp_path):
    image = np.random.default_rng(0).integers(0, 60000, (6, 6, 5)).astype(np.uint16)
    for index, plane in enumerate(image):
        if index != 3:
            tifffile.imwrite(tmp_path / f"cell_z{index:03d}.tif", plane)

    volume = read_volume(tmp_path)

    np.testing.assert_array_equal(volume.array, np.delete(image, 3, axis=0))
    assert "3 is missing" in volume.provenance["warnings"][0]


def test_a_folder_of_stacks_or_of_two_kinds_is_no_volume(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 4, 5), np.uint8))

    with pytest.raises(AxisError, match="folder of volumes"):
        open_volume(tmp_path)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(FormatError, match="PNG and TIFF"):
        open_volume(tmp_path)
    assert [path.name for path in list_volumes(tmp_path)] == ["a.tif", "b.png"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_of_8_or_16_bits(tmp_path, dtype):
    plane = (
        np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (6, 5)).astype(dtype)
    )
    Image.fromarray(plane).save(tmp_path / "cell.png")

    volume = read_volume(tmp_path / "cell.png")

    np.testing.assert_array_equal(volume.array, plane[np.newaxis])
    assert volume.dtype == dtype


# --- spacing given by the user


def test_a_given_spacing_wins_and_moves_the_affine(tmp_path, image):
    path = write_volume(tmp_path / "cell.nii", Volume(image, Spacing(1, 1, 1)))

    volume = open_volume(path, spacing=(0.05, 0.04, 0.03))

    assert volume.spacing == Spacing(0.05, 0.04, 0.03)
    np.testing.assert_allclose(np.diag(volume.affine_mm)[:3], (3e-5, 4e-5, 5e-5))


def test_an_implausible_spacing_is_warned_of(tmp_path, image):
    path = write_volume(tmp_path / "cell.nii", Volume(image, Spacing(1000, 1000, 1000)))

    assert "implausible" in open_volume(path).provenance["warnings"][0]

"""Odd but real files of every format: their values, or what is said about them."""

import gzip
import json
import logging
import struct
import zlib

import h5py
import mrcfile.dtypes
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr

from cellseg3d.core.errors import AxisError, FormatError, InputError
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.check import check_volume
from cellseg3d.io.registry import (
    list_volumes,
    open_volume,
    read_labels,
    read_volume,
)

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 256, (5, 12, 10), dtype="u1")
TWO = RNG.integers(0, 60000, (2, 5, 12, 10), dtype="u2")
BLACK = {"photometric": "minisblack"}


def warnings_of(path, **options):
    return " | ".join(open_volume(path, **options).provenance.get("warnings", ()))


def spacing_of(path):
    return open_volume(path).spacing


# --- TIFF


def test_pages_written_one_by_one_are_the_slices_of_a_stack(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for page in STACK:
            file.write(page, contiguous=False, **BLACK)

    np.testing.assert_array_equal(read_volume(path).read(), STACK)
    np.testing.assert_array_equal(open_volume(path).array[2:4, 3], STACK[2:4, 3])
    assert "one by one" in warnings_of(path)


def test_two_stacks_in_one_file_are_not_joined(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for _ in range(2):
            file.write(STACK, contiguous=False, **BLACK)

    with pytest.raises(AxisError, match="holds 2 images"):
        open_volume(path)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("between", [True, False])
def test_thumbnails_are_no_slices(tmp_path, between, named):
    path = tmp_path / "a.tif"
    options = {"metadata": None, "contiguous": False, **BLACK}
    with tifffile.TiffWriter(path) as file:
        if named and not between:
            file.write(STACK, **BLACK)
        for page in STACK if between or not named else []:
            file.write(page, **options)
            if between:
                file.write(page[::2, ::2], subfiletype=1, **options)
        if not between:
            file.write(STACK[0, ::2, ::2], subfiletype=1, **options)

    np.testing.assert_array_equal(read_volume(path).read(), STACK)


def lsm(path, stack, metres):
    """Write a stack (z, c, y, x) as Zeiss's LSM, each slice before its thumbnail."""
    fields = [(name or "rest", kind) for name, kind in tifffile.TIFF.CZ_LSMINFO]
    info = np.zeros((), np.dtype(fields))
    info["MagicNumber"], info["StructureSize"] = 67127628, info.nbytes
    depth, channels, height, width = stack.shape
    info["DimensionX"], info["DimensionY"], info["DimensionZ"] = width, height, depth
    info["DimensionChannels"], info["DimensionTime"], info["DataType"] = channels, 1, 1
    info["VoxelSizeZ"], info["VoxelSizeY"], info["VoxelSizeX"] = metres
    tag = (34412, "B", info.nbytes, info.tobytes(), True)
    apart = {"planarconfig": "separate", "photometric": "rgb"}
    options = {"metadata": None, "contiguous": False}
    with tifffile.TiffWriter(path) as file:
        for number, page in enumerate(stack):
            how = apart if channels == 3 else BLACK
            tags = [] if number else [tag]
            data = page if channels == 3 else page[0]
            file.write(data, extratags=tags, compression="lzw", **how, **options)
            thumbnail = np.zeros((3, 4, 4), "u1")
            file.write(thumbnail, subfiletype=1, **apart, **options)


def test_an_lsm_has_its_slices_channels_and_edges(tmp_path):
    one, three = tmp_path / "a.lsm", tmp_path / "b.lsm"
    colours = RNG.integers(0, 256, (5, 3, 12, 10), dtype="u1")
    lsm(one, STACK[:, np.newaxis], (3e-7, 1e-7, 2e-7))
    lsm(three, colours, (3e-7, 1e-7, 2e-7))

    np.testing.assert_array_equal(read_volume(one).read(), STACK)
    assert spacing_of(one).zyx == pytest.approx((0.3, 0.1, 0.2))
    np.testing.assert_array_equal(read_volume(three, channel=1).read(), colours[:, 1])


def test_a_tiff_of_one_voxel_is_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.full((1, 1, 1), 7, "u1"), **BLACK)

    assert read_volume(path).read().tolist() == [[[7]]]


def test_unnamed_axes_of_a_tiff_are_read_as_those_of_hdf5(tmp_path):
    path, same = tmp_path / "a.tif", tmp_path / "a.h5"
    tifffile.imwrite(path, TWO, **BLACK)
    with h5py.File(same, "w") as file:
        file["raw"] = TWO

    for each in (path, same):
        with pytest.raises(AxisError, match=r"2 channels.*`channel` \(0..1\).*zyxc"):
            open_volume(each)
        np.testing.assert_array_equal(read_volume(each, channel=1).read(), TWO[1])
        np.testing.assert_array_equal(
            read_volume(each, channel=3, read_as="zcyx").read(), TWO[:, 3]
        )


def test_grey_with_an_opacity_of_1_is_grey_and_else_refused(tmp_path):
    path = tmp_path / "a.tif"
    for opacity in (255, 254):
        pixels = np.stack([STACK, np.full_like(STACK, opacity)], -1)
        how = {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
        tifffile.imwrite(path, pixels, **how, **BLACK)
        if opacity == 255:
            np.testing.assert_array_equal(read_volume(path).read(), STACK)
        else:
            with pytest.raises(AxisError, match="2 channels"):
                open_volume(path)


def test_tags_that_change_what_others_show_are_told(tmp_path):
    turned, signed = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(turned, STACK, extratags=[(274, 3, 1, 3, True)], **BLACK)
    text = "ImageJ=1.53t\nimages=5\nslices=5\ncf=0\nc0=-32768.0\nc1=1.0\n"
    tifffile.imwrite(signed, STACK, description=text, metadata=None, **BLACK)

    assert "orientation tag is 3" in warnings_of(turned)
    assert "-32768 + 1 x the stored ones" in warnings_of(signed)
    np.testing.assert_array_equal(read_volume(signed).read(), STACK)


def ome(path, inner="", **changes):
    pixels = {
        "ID": "Pixels:0",
        "DimensionOrder": "XYZCT",
        "Type": "uint8",
        **dict(zip(("SizeX", "SizeY", "SizeZ"), STACK.shape[::-1], strict=True)),
        "SizeC": 1,
        "SizeT": 1,
        **changes,
    }
    facts = " ".join(f'{key}="{value}"' for key, value in pixels.items())
    inner = inner or (
        f'<Image ID="Image:0"><Pixels {facts}><Channel ID="Channel:0:0"/><TiffData/>'
        "</Pixels></Image>"
    )
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    text = f'<?xml version="1.0"?><OME xmlns="{space}">{inner}</OME>'
    with tifffile.TiffWriter(path, ome=False) as file:
        for number, page in enumerate(STACK):
            words = None if number else text.encode()
            file.write(page, description=words, metadata=None, **BLACK)
    return path


def test_ome_numbers_that_are_none_are_told_and_the_file_is_not_called_damaged(
    tmp_path,
):
    edges = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}
    comma = ome(tmp_path / "a.ome.tif", PhysicalSizeZ="0,3", **edges)
    unit = ome(
        tmp_path / "b.ome.tif",
        **{f"PhysicalSize{letter}": 1 for letter in "XYZ"},
        **{f"PhysicalSize{letter}Unit": "pixel" for letter in "XYZ"},
    )
    size = ome(tmp_path / "c.ome.tif", SizeC="one")

    assert spacing_of(comma) is None
    assert "no spacing along z" in warnings_of(comma)
    assert "are in 'pixel', which is no unit of length" in warnings_of(unit)
    with pytest.raises(FormatError, match="states 'one' as SizeC"):
        open_volume(size)


def test_a_part_of_an_ome_tiff_names_the_file_that_describes_it(tmp_path):
    path = ome(tmp_path / "a.ome.tif", '<BinaryOnly MetadataFile="b.companion.ome"/>')

    with pytest.raises(FormatError, match=r"in another file \(b.companion.ome\)"):
        open_volume(path)


@pytest.mark.parametrize(
    ("unit", "edge_um"), [("inch", 25_400), ("pm", 1e-6), ("Å", 1e-4), ("cm", 1e4)]
)
def test_every_unit_of_length_of_ome_counts(tmp_path, unit, edge_um):
    path = ome(
        tmp_path / "a.ome.tif",
        **{f"PhysicalSize{letter}": 2 for letter in "XYZ"},
        **{f"PhysicalSize{letter}Unit": unit for letter in "XYZ"},
    )

    assert spacing_of(path).zyx == pytest.approx((2 * edge_um,) * 3)


# --- files of other formats


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("a.czi", "OME-TIFF"),
        ("a.LIF", "OME-TIFF"),
        ("a.mrc.gz", "unpack it"),
        ("a.zarr.zip", "unpack it"),
        ("a.jpg", "PNG or TIFF"),
        ("a.nrrd", "nii.gz"),
        ("a.raw", "no shape"),
        ("a.npy", "write_volume"),
        ("a.json", "no volume"),
    ],
)
def test_a_file_of_another_format_has_its_own_way_out(tmp_path, name, way):
    path = tmp_path / name
    path.write_bytes(b"\1\2\3" * 500)

    with pytest.raises(FormatError, match=f"are not read.*{way}"):
        open_volume(path)


def test_half_of_a_nifti_in_two_files_is_not_called_incomplete(tmp_path):
    nib.save(nib.Nifti1Pair(STACK.T, np.eye(4)), tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "b.nii")

    with pytest.raises(FormatError, match=r"\.img are not read; save it as .nii.gz"):
        open_volume(tmp_path / "a.img")
    with pytest.raises(FormatError, match="header of a NIfTI in two files"):
        open_volume(tmp_path / "b.nii")


# --- MRC


def test_bytes_of_an_mrc_are_unsigned_if_its_header_states_so(tmp_path):
    header = np.zeros((), mrcfile.dtypes.HEADER_DTYPE)
    header["nx"], header["ny"], header["nz"] = STACK.shape[::-1]
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
    path = tmp_path / "a.mrc"
    for least, most, kind in ((0, 255, "u1"), (0, 127, "i1"), (-128, 127, "i1")):
        header["dmin"], header["dmax"] = least, most
        path.write_bytes(header.tobytes() + STACK.tobytes())

        np.testing.assert_array_equal(read_volume(path).read(), STACK.view(kind))
        assert ("read as 0..255" in warnings_of(path)) == (kind == "u1")


# --- NIfTI


def nifti(path, **changes):
    """Write a NIfTI, then change fields: offset and format by name."""
    nib.save(nib.Nifti1Image(STACK.T, np.diag([1e-4, 1e-4, 3e-4, 1])), path)
    data = bytearray(path.read_bytes())
    for place, (kind, value) in changes.items():
        struct.pack_into(kind, data, int(place[1:]), value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["A.NII.GZ", "a.Nii.Gz", "A.NII"])
def test_a_suffix_in_upper_case_is_the_same(tmp_path, name):
    plain = nifti(tmp_path / "x.nii").read_bytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(plain) if "z" in name.lower() else plain)

    np.testing.assert_array_equal(read_volume(path).read(), STACK)


def test_a_sound_gzip_with_bytes_after_it_is_read_and_told(tmp_path, caplog):
    stack = RNG.integers(0, 256, (9, 99, 99), dtype="u1")
    nib.save(
        nib.Nifti1Image(stack.T, np.diag([1e-4, 1e-4, 3e-4, 1])), tmp_path / "x.nii"
    )
    plain = (tmp_path / "x.nii").read_bytes()
    after, inside, cut = (tmp_path / f"{each}.nii.gz" for each in ("a", "b", "c"))
    after.write_bytes(gzip.compress(plain) + b"junk" * 9)
    inside.write_bytes(gzip.compress(plain + b"x" * 100))
    cut.write_bytes(gzip.compress(plain)[:-20])

    with caplog.at_level(logging.WARNING):
        for path in (after, inside):
            np.testing.assert_array_equal(read_volume(path).read(), stack)
    assert "unknown bytes follow the compressed file" in caplog.text
    assert "100 unknown bytes follow the last voxel" in caplog.text
    with pytest.raises(
        FormatError, match=r"damaged after [1-9]\d* of 88561 decompressed"
    ):
        read_volume(cut)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"p108": ("<f", 0.0)}, "begin at byte 0"), ({"p46": ("<h", -5)}, "lengths")],
)
def test_an_impossible_nifti_header_is_refused(tmp_path, change, said):
    with pytest.raises(FormatError, match=said):
        read_volume(nifti(tmp_path / "a.nii", **change))


def test_nibabel_prints_nothing(tmp_path, capfd):
    path = nifti(tmp_path / "a.nii", p80=("<f", 0.0))

    read_volume(path)

    assert capfd.readouterr() == ("", "")


# --- HDF5 and Zarr


def test_an_array_without_voxels_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = np.zeros((0, 12, 10))
    zarr.create_array(
        tmp_path / "a.zarr", shape=(5, 0, 10), dtype="u1", chunks=(1,) * 3
    )

    for each in (path, tmp_path / "a.zarr"):
        with pytest.raises(FormatError, match="holds no voxels"):
            open_volume(each)


def test_an_hdf5_after_a_block_of_the_user_is_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["raw"] = STACK

    np.testing.assert_array_equal(read_volume(path).read(), STACK)


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_edges_in_attributes_are_read_with_a_unit_and_told_without(tmp_path, kind):
    def volume(number, attributes):
        if kind == "zarr":
            array = zarr.create_array(tmp_path / f"{number}.zarr", data=STACK)
            array.attrs.update(attributes)
            return tmp_path / f"{number}.zarr"
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as file:
            file["raw"] = STACK
            file["raw"].attrs.update(attributes)
        return path

    nm = volume(1, {"element_size_nm": [300, 100, 100], "resolution": [9, 9, 9]})
    both = volume(2, {"element_size_nm": [1, 1, 1], "element_size_um": [0.3, 0.1, 0.1]})
    bare = volume(3, {"resolution": [40, 4, 4]})
    other = volume(4, {"offset": [0, 0, 0]})

    assert spacing_of(nm).zyx == pytest.approx((0.3, 0.1, 0.1))
    assert spacing_of(both).zyx == pytest.approx((0.3, 0.1, 0.1))
    assert spacing_of(bare) is None
    assert "its attribute resolution is [40" in warnings_of(bare)
    assert warnings_of(other) == ""


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_missing_chunks_are_said_to_read_as_their_fill_value(tmp_path, kind):
    options = {"shape": (8, 8, 8), "dtype": "u1", "chunks": (4, 4, 4)}
    path = tmp_path / ("a.zarr" if kind == "zarr" else "a.h5")
    if kind == "zarr":
        zarr.create_array(path, fill_value=7, **options)[:4] = 1
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", fillvalue=7, **options)[:4] = 1

    found = check_volume(path)

    assert found.largest == 7
    assert "4 of 8 chunks are missing and read as 7" in found.warnings


def test_columns_that_may_be_colours_are_doubted(tmp_path):
    colours, thin = tmp_path / "a.h5", tmp_path / "b.h5"
    with h5py.File(colours, "w") as file:
        file["raw"] = np.moveaxis(STACK[:3], 0, -1)
    with h5py.File(thin, "w") as file:
        file["raw"] = STACK[:, :3, :3]

    assert "say `read_as` yxc if these are colours" in warnings_of(colours)
    np.testing.assert_array_equal(
        read_volume(colours, read_as="yxc", channel=2).read()[0], STACK[2]
    )
    assert warnings_of(thin) == ""


def ngff(group, axes, data):
    group.create_array("0", data=data)
    scale = {"type": "scale", "scale": [0.1] * len(axes)}
    kinds = [{"name": n, "type": "space", "unit": "micrometer"} for n in axes]
    levels = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["multiscales"] = [{"axes": kinds, "datasets": levels}]


def test_labels_in_an_ome_zarr_are_taken_where_labels_are_wanted(tmp_path):
    path = tmp_path / "a.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2)
    ngff(root, "zyx", TWO[0])
    ngff(root.create_group("labels/cell"), "zyx", STACK % 3)

    np.testing.assert_array_equal(read_volume(path).read(), TWO[0])
    np.testing.assert_array_equal(read_labels(path).read(), STACK % 3)
    assert "its labels/cell is read, not the image" in warnings_of(path, labels=True)

    ngff(root.create_group("labels/nucleus"), "zyx", STACK % 2)
    with pytest.raises(FormatError, match=r"2 label images .*name one as a.zarr::lab"):
        read_labels(path)


def test_arrays_in_a_zarr_are_chosen_as_in_hdf5_and_found_in_deep_groups(tmp_path):
    pair, deep = tmp_path / "a.zarr", tmp_path / "b.zarr"
    group = zarr.open_group(pair, mode="w")
    group.create_array("raw", data=TWO[0])
    group.create_array("label", data=STACK % 3)
    zarr.open_group(deep, mode="w").create_array("a/b/c", data=STACK)

    np.testing.assert_array_equal(read_volume(pair).read(), TWO[0])
    np.testing.assert_array_equal(read_labels(pair).read(), STACK % 3)
    np.testing.assert_array_equal(read_volume(deep).read(), STACK)


def test_a_second_image_in_an_ome_zarr_is_told(tmp_path):
    path = tmp_path / "a.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2)
    ngff(root, "zyx", STACK)
    facts = json.loads((path / ".zattrs").read_text(encoding="utf-8"))
    facts["multiscales"] *= 2
    (path / ".zattrs").write_text(json.dumps(facts), encoding="utf-8")

    assert "not the 1 others" in warnings_of(path)


# --- PNG


def png(path, colour, bits, row, extra=()):
    """Write a PNG of two equal rows from bytes; `extra` holds more chunks."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    samples = {0: 1, 2: 3}[colour]
    width = len(row) * 8 // (bits * samples)
    head = struct.pack(">IIBBBBB", width, 2, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress((b"\0" + row) * 2))]
    body = b"".join(chunk(*part) for part in (*parts, (b"IEND", b"")))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_a_transparent_colour_does_not_change_the_values_of_a_png(tmp_path):
    grey, deep, colour = (tmp_path / f"{each}.png" for each in "abc")
    png(grey, 0, 8, bytes([0, 1, 2, 3]), [(b"tRNS", b"\0\2")])
    png(deep, 0, 16, struct.pack(">2H", 300, 301), [(b"tRNS", struct.pack(">H", 300))])
    png(colour, 2, 8, bytes([5, 5, 5, 9, 9, 9]), [(b"tRNS", bytes([0, 5] * 3))])

    assert read_volume(grey).read().tolist() == [[[0, 1, 2, 3]] * 2]
    assert read_volume(deep).read().tolist() == [[[300, 301]] * 2]
    assert read_volume(colour).read().tolist() == [[[5, 9]] * 2]


def test_the_frames_of_an_animated_png_are_counted(tmp_path):
    path = tmp_path / "a.png"
    png(path, 0, 8, bytes([7, 8]), [(b"acTL", struct.pack(">II", 4, 0))])

    assert read_volume(path).read().tolist() == [[[7, 8]] * 2]
    assert "the first of its" in warnings_of(path)


def test_a_folder_without_volumes_says_what_it_holds_and_what_to_do(tmp_path):
    for name in ("a.czi", "a_mask.czi", "notes.txt"):
        (tmp_path / name).write_bytes(b"\1\2\3" * 500)

    for ask in (list_volumes, load_datalist):
        with pytest.raises(InputError, match=r"a\.czi, a_mask\.czi.*OME-TIFF"):
            ask(tmp_path)


def test_a_volume_without_a_label_beside_pairs_is_told(tmp_path, caplog):
    for name in ("a_image", "a_label", "stray"):
        tifffile.imwrite(tmp_path / f"{name}.tif", STACK % 2, **BLACK)

    assert [case.name for case in load_datalist(tmp_path).cases] == ["a"]
    assert (
        "1 volume is left out, since no label has such a name (stray.tif)"
        in caplog.text
    )


def test_channels_of_a_folder_of_slices_have_no_axes_to_name(tmp_path):
    for z, c in np.ndindex(3, 2):
        name = tmp_path / f"z{z}_ch{c}.png"
        png(name, 0, 8, bytes([10 * z + c, 0]))

    with pytest.raises(AxisError, match=r"`channel` \(0\.\.1\)$"):
        open_volume(tmp_path)
    found = read_volume(tmp_path, channel=1).read()[:, 0, 0]
    assert found.tolist() == [1, 11, 21]

"""What a format states twice is compared: no damage that it can show passes silently.

Formats without a checksum (plain TIFF, MRC, NIfTI without gzip, raw chunks) cannot show
a flipped byte among their voxels, and TIFF does not state how long its file is.
"""

import gzip
import json
import logging
import os
import struct

import h5py
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from cellseg3d.core.errors import FormatError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.check import open_input
from cellseg3d.io.registry import write_volume

SHAPE = (12, 20, 18)
CHUNK = (4, 20, 18)
STACK = np.random.default_rng(0).integers(1, 60000, SHAPE).astype(np.uint16)


def ours(suffix):
    def write(folder):
        return write_volume(
            folder / f"a{suffix}", Volume(STACK, Spacing(0.05, 0.03, 0.03))
        )

    return write


def tiff(**options):
    def write(folder):
        tifffile.imwrite(folder / "a.tif", STACK, **options)
        return folder / "a.tif"

    return write


def pages(folder):
    with tifffile.TiffWriter(folder / "a.tif") as file:
        for plane in STACK:
            file.write(plane, contiguous=False, metadata=None)
    return folder / "a.tif"


def hdf5(**options):
    def write(folder):
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("raw", data=STACK, **options)
        return folder / "a.h5"

    return write


def zarr_of(version, *codecs, **options):
    def write(folder):
        compressors = list(codecs) or None
        if version == 2 and isinstance((*codecs, None)[0], numcodecs.CRC32):
            options["filters"], compressors = list(codecs), None
        zarr.create_array(
            folder / "a.zarr",
            data=STACK,
            chunks=CHUNK,
            zarr_format=version,
            compressors=compressors,
            **options,
        )
        return folder / "a.zarr"

    return write


def png(folder):
    return write_volume(folder / "a.png", Volume(STACK[:1]))


def palette(folder):
    Image.fromarray((STACK[0] % 255).astype("u1")).convert("P").save(folder / "a.png")
    return folder / "a.png"


FORMATS = {
    "tiff": ours(".tif"),
    "tiff of pages": pages,
    "tiff zlib": tiff(compression="zlib"),
    "tiff png": tiff(compression="png"),
    "tiff lzw": tiff(compression="lzw"),
    "tiff zstd": tiff(compression="zstd"),
    "imagej": tiff(imagej=True, metadata={"axes": "ZYX"}),
    "ome-tiff": ours(".ome.tif"),
    "mrc": ours(".mrc"),
    "nifti": ours(".nii"),
    "nifti gz": ours(".nii.gz"),
    "hdf5": ours(".h5"),
    "hdf5 plain": hdf5(),
    "hdf5 fletcher32": hdf5(chunks=CHUNK, fletcher32=True),
    "hdf5 gzip": hdf5(chunks=CHUNK, compression="gzip"),
    "ome-zarr": ours(".zarr"),
    "zarr v2 raw": zarr_of(2),
    "zarr v2 crc32": zarr_of(2, numcodecs.CRC32()),
    "zarr v2 blosc": zarr_of(2, numcodecs.Blosc()),
    "zarr v2 zlib": zarr_of(2, numcodecs.Zlib()),
    "zarr v3 raw": zarr_of(3),
    "zarr v3 crc32c": zarr_of(3, Crc32cCodec()),
    "zarr v3 blosc": zarr_of(3, BloscCodec()),
    "zarr v3 gzip": zarr_of(3, GzipCodec()),
    "zarr v3 zstd": zarr_of(3, ZstdCodec(checksum=True)),
    "zarr v3 shards": zarr_of(3, Crc32cCodec(), shards=(8, 20, 18)),
    "png": png,
    "png palette": palette,
    "slices": ours(""),
}
# A TIFF and a stream of zlib do not state how long the file is.
ENDLESS = (
    *(name for name in FORMATS if "tiff" in name),
    "imagej",
    "zarr v2 zlib",
)
# The voxels of these lie under a checksum of the format.
CHECKSUM = (
    "tiff zlib",
    "tiff png",
    "nifti gz",
    "hdf5 fletcher32",
    "hdf5 gzip",
    "ome-zarr",
    "zarr v2 crc32",
    "zarr v2 zlib",
    "zarr v3 crc32c",
    "zarr v3 gzip",
    "zarr v3 zstd",
    "zarr v3 shards",
    "png",
    "png palette",
    "slices",
)


def voxel_file(path):
    """The file that holds voxels: the volume, its first slice or its first chunk."""
    if path.is_file():
        return path
    metadata = ("zarr.json", ".zarray", ".zattrs", ".zgroup", "cellseg3d.json")
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    return next(file for file in files if file.name not in metadata)


def said_of(path, caplog):
    """The error or the warnings of the reader that all verbs share; none if silent."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="cellseg3d"):
        try:
            open_input(path).read()
        except FormatError as error:
            return str(error)
    return "; ".join(record.getMessage() for record in caplog.records)


def change(path, edit):
    file = voxel_file(path)
    data = bytearray(file.read_bytes())
    file.write_bytes(edit(data) or data)


@pytest.mark.parametrize("name", FORMATS)
def test_a_sound_file_is_read_without_a_word(tmp_path, caplog, name):
    path = FORMATS[name](tmp_path)

    assert said_of(path, caplog) == ""


@pytest.mark.parametrize("at", [0.35, 0.5, 0.65])
@pytest.mark.parametrize("name", CHECKSUM)
def test_a_flipped_byte_under_a_checksum_is_told(tmp_path, caplog, name, at):
    path = FORMATS[name](tmp_path)
    expected = open_input(path).read()
    place = int(voxel_file(path).stat().st_size * at)
    if name.startswith("hdf5"):  # a place among the voxels, not in a gap of the file
        with h5py.File(path) as file:
            chunk = file["raw"].id.get_chunk_info(1)
        place = chunk.byte_offset + int(chunk.size * at)
    if name.startswith("tiff"):
        with tifffile.TiffFile(path) as file:
            page = file.pages[3]
        place = page.dataoffsets[0] + int(page.databytecounts[0] * at)

    def flip(data):
        data[place] ^= 16

    change(path, flip)

    said = said_of(path, caplog)
    assert path.name in said
    assert "\n" not in said
    assert "damaged" in said
    assert "copy it again" in said
    change(path, flip)
    np.testing.assert_array_equal(open_input(path).read(), expected)


@pytest.mark.parametrize("share", [0.6, 0.99])
@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_file_is_told(tmp_path, caplog, name, share):
    path = FORMATS[name](tmp_path)
    file = voxel_file(path)

    os.truncate(file, int(file.stat().st_size * share))

    assert "copy it again" in said_of(path, caplog)


@pytest.mark.parametrize("more", [1, 720])
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ENDLESS])
def test_a_file_longer_than_it_says_is_told(tmp_path, caplog, name, more):
    path = FORMATS[name](tmp_path)

    change(path, lambda data: data + b"\7" * more)

    said = said_of(path, caplog)
    assert "unknown byte" in said or "damaged" in said


@pytest.mark.parametrize("behind", [0, 5])
def test_the_last_slice_is_watched_like_the_first(tmp_path, caplog, behind):
    path = FORMATS["slices"](tmp_path)
    last = sorted(path.glob("*.png"))[-1]
    data = last.read_bytes()
    last.write_bytes(data + b"\7" * behind if behind else data[:-1])

    said = said_of(path, caplog)

    assert last.name in said
    assert ("5 unknown bytes" if behind else "copy it again") in said


def tag(name, value):
    def edit(path):
        with tifffile.TiffFile(path) as file:
            places = [page.tags[name].valueoffset for page in file.pages]
        data = bytearray(path.read_bytes())
        for place in places:
            struct.pack_into("<H", data, place, value)
        path.write_bytes(data)

    return edit


def field(form, place, value, *, packed=False):
    def edit(path):
        data = path.read_bytes()
        data = bytearray(gzip.decompress(data) if packed else data)
        struct.pack_into(form, data, place, value)
        path.write_bytes(gzip.compress(bytes(data)) if packed else data)

    return edit


def dataspace(depth):
    def edit(path):
        old = struct.pack("<QQQ", *SHAPE)
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, struct.pack("<QQQ", depth, *SHAPE[1:])))

    return edit


def array_shape(depth):
    def edit(path):
        file = next(
            path / name for name in ("zarr.json", ".zarray") if (path / name).is_file()
        )
        metadata = json.loads(file.read_text(encoding="utf-8"))
        metadata["shape"][0] = depth
        file.write_text(json.dumps(metadata), encoding="utf-8")

    return edit


def other_headers():
    for name in ("tiff", "tiff of pages", "tiff zlib"):
        for key, values in {"ImageLength": (16, 24), "ImageWidth": (16, 24)}.items():
            for value in values:
                yield name, f"{key} {value}", tag(key, value)
        yield name, "8 bits", tag("BitsPerSample", 8)
    for value in (14, 22):
        yield "mrc", f"NX {value}", field("<i", 0, value)
        yield "nifti", f"NX {value}", field("<h", 42, value)
        yield "nifti gz", f"NX {value}", field("<h", 42, value, packed=True)
        yield "png", f"width {value}", field(">I", 16, value)
        yield (
            "slices",
            f"width {value}",
            lambda path, v=value: field(">I", 16, v)(voxel_file(path)),
        )
    for value in (4, 8, 16):
        for name in ("hdf5 plain", "hdf5 fletcher32", "hdf5 gzip"):
            yield name, f"depth {value}", dataspace(value)
        for name in ("zarr v2 raw", "zarr v2 blosc", "zarr v3 raw", "zarr v3 blosc"):
            yield name, f"depth {value}", array_shape(value)
    for value in (4, 24):
        yield "zarr v3 shards", f"depth {value}", array_shape(value)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        pytest.param(name, edit, id=f"{name}, {what}")
        for name, what, edit in other_headers()
    ],
)
def test_a_header_that_states_another_size_is_told(tmp_path, caplog, name, edit):
    path = FORMATS[name](tmp_path)

    edit(path)

    assert said_of(path, caplog)

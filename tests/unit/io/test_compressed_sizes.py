"""Compressed data that hold more or fewer voxels than the header states are refused."""

import io
import struct
import zlib

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from cellseg3d.core.errors import FormatError
from cellseg3d.io.registry import open_volume, read_volume

HEADER = struct.Struct(">IIBBBBB")


def png(width, height, bits, colour, packed, interlaced=0):
    """Return the bytes of a PNG with right checksums."""
    out = io.BytesIO(b"")
    out.write(b"\x89PNG\r\n\x1a\n")
    head = HEADER.pack(width, height, bits, colour, 0, 0, interlaced)
    for kind, data in ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b"")):
        crc = zlib.crc32(kind + data)
        out.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc))
    return out.getvalue()


def rows(plane):
    return b"".join(b"\0" + row.tobytes() for row in plane)


@pytest.mark.parametrize("lost", [-1, 1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_png_of_another_height_is_refused(tmp_path, bits, lost):
    plane = np.arange(70, dtype=f">u{bits // 8}").reshape(10, 7)
    packed = zlib.compress(rows(plane))
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(png(7, 10, bits, 0, packed))
    bad.write_bytes(png(7, 10 - lost, bits, 0, packed))

    assert (read_volume(good).array[0] == plane).all()
    with pytest.raises(FormatError, match=rf"states {10 - lost} x 7 pixels"):
        read_volume(bad)


def test_a_png_of_another_width_or_depth_is_refused(tmp_path):
    packed = zlib.compress(rows(np.arange(80, dtype="u1").reshape(10, 8)))
    for width, bits in ((7, 8), (9, 8), (8, 16), (8, 4)):
        file = tmp_path / f"{width}_{bits}.png"
        file.write_bytes(png(width, 10, bits, 0, packed))
        with pytest.raises(FormatError, match="damaged PNG"):
            read_volume(file)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 7), (9, 16), (16, 9)])
def test_an_interlaced_png_is_read(tmp_path, shape):
    plane = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)
    passes = (
        plane[0::8, 0::8],
        plane[0::8, 4::8],
        plane[4::8, 0::4],
        plane[0::4, 2::4],
        plane[2::4, 0::2],
        plane[0::2, 1::2],
        plane[1::2, 0::1],
    )
    packed = zlib.compress(b"".join(rows(part) for part in passes if part.size))
    file = tmp_path / "interlaced.png"
    file.write_bytes(png(shape[1], shape[0], 8, 0, packed, interlaced=1))

    assert (read_volume(file).array[0] == plane).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_a_png_of_every_kind_of_colour_is_read(tmp_path, mode):
    file = tmp_path / "any.png"
    Image.new(mode, (9, 5)).save(file)

    volume = open_volume(file, channels="all")

    assert volume.read().shape[-2:] == (5, 9)


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("bits", [8, 32])
def test_other_bits_of_compressed_pages_are_refused(tmp_path, compression, tile, bits):
    array = np.arange(3 * 32 * 32, dtype=np.uint16).reshape(3, 32, 32)
    file = tmp_path / "cell.tif"
    tifffile.imwrite(
        file, array, compression=compression, photometric="minisblack", tile=tile
    )
    assert (read_volume(file).array == array).all()
    data = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as tif:
        places = [page.tags["BitsPerSample"].valueoffset for page in tif.pages]
    for place in places:
        data[place : place + 2] = struct.pack("<H", bits)
    file.write_bytes(data)

    with pytest.raises(FormatError, match=r"cell\.tif: page 0 cannot be read"):
        read_volume(file)


@pytest.mark.parametrize("library", ["earliest", "latest"])
@pytest.mark.parametrize("block", [0, 512, 2048])
def test_hdf5_behind_a_block_of_the_users_own_is_read(tmp_path, block, library):
    array = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    file = tmp_path / "cell.h5"
    with h5py.File(file, "w", userblock_size=block, libver=library) as opened:
        opened["raw"] = array
    data = bytearray(file.read_bytes())
    data[: block // 2] = b"x" * (block // 2)
    file.write_bytes(data)

    assert (read_volume(file).array == array).all()
    assert "warnings" not in open_volume(file).provenance
    file.write_bytes(data + b"more")
    [said] = open_volume(file).provenance["warnings"]
    assert said == "4 unknown bytes follow the data"

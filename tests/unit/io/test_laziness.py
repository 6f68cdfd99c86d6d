"""A file of 100 GB opens in under a second and gives up a region alone."""

import os
import pickle
import struct
import time

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr

from cellseg3d.core.roi import Roi
from cellseg3d.io.registry import create_volume, open_volume

SHAPE = (12_500, 2048, 2048)
HERE = Roi.at((9000, 1000, 700), (2, 3, 4))
VALUES = np.arange(1, 25, dtype=np.uint16).reshape(2, 3, 4)


def sparse_mrc(path):
    writer = create_volume(path, SHAPE, "u2")
    writer.write(HERE, VALUES)
    return writer.close()


def sparse_nifti(path):
    return sparse_mrc(path)


def sparse_tiff(path):
    mapped = tifffile.memmap(path, shape=SHAPE, dtype="u2", bigtiff=True, metadata=None)
    mapped[HERE.slices] = VALUES
    return path


def sparse_ome(path):
    return sparse_mrc(path)


def sparse_hdf5(path):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("raw", SHAPE, "u2", chunks=(8, 256, 256))
        data[HERE.slices] = VALUES
    return path


def sparse_hdf5_contiguous(path):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("raw", SHAPE, "u2")
        data[HERE.slices] = VALUES
        offset = data.id.get_offset()
    os.truncate(path, max(path.stat().st_size, offset + int(np.prod(SHAPE)) * 2))
    return path


def sparse_zarr(path):
    array = zarr.create_array(path, shape=SHAPE, chunks=(64, 64, 64), dtype="u2")
    array[HERE.slices] = VALUES
    return path


CASES = {
    "cell.mrc": sparse_mrc,
    "cell.nii": sparse_nifti,
    "plain.tif": sparse_tiff,
    "cell.ome.tif": sparse_ome,
    "chunked.h5": sparse_hdf5,
    "contiguous.h5": sparse_hdf5_contiguous,
    "cell.zarr": sparse_zarr,
}


@pytest.mark.parametrize("name", CASES)
def test_a_hundred_gigabytes_open_at_once(tmp_path, name):
    path = CASES[name](tmp_path / name)

    began = time.process_time()
    volume = open_volume(path)
    part = volume.read(HERE)
    took = time.process_time() - began

    assert volume.shape == SHAPE
    np.testing.assert_array_equal(part, VALUES)
    # Of this process alone, so that a busy machine does not count: 100 GB read would
    # take minutes.
    assert took < 2


@pytest.fixture
def cell(tmp_path):
    array = np.random.default_rng(0).integers(0, 999, (5, 6, 7)).astype(np.uint16)
    path = tmp_path / "cell.tif"
    tifffile.imwrite(path, array, compression="zlib", tile=(16, 16))
    return array, open_volume(path)


@pytest.mark.parametrize(
    "key",
    [
        (slice(None),) * 3,
        (slice(1, 3), slice(2, None), slice(-3, None)),
        (slice(None, None, 2), slice(1, None, 3), slice(0, 7, 2)),
        (slice(None, None, -1), slice(4, 1, -2), slice(None)),
        (2,),
        (-1, slice(None), 3),
        (Ellipsis, 4),
        (slice(3, 3), slice(None), slice(None)),
        (1, 2, 3),
        slice(1, 4),
    ],
)
def test_indexing_is_numpy_s(cell, key):
    array, volume = cell

    np.testing.assert_array_equal(volume.array[key], array[key])


@pytest.mark.parametrize("key", [7, (0, 9), (0, 0, 0, 0)])
def test_an_index_outside_is_an_error(cell, key):
    with pytest.raises(IndexError):
        cell[1].array[key]


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz", ".mrc", ".h5", ".zarr", ""])
def test_a_lazy_volume_can_be_sent_to_another_process(tmp_path, suffix):
    array = np.random.default_rng(0).integers(0, 255, (5, 6, 7)).astype(np.uint8)
    with create_volume(tmp_path / f"cell{suffix}", array.shape, "u1") as writer:
        writer.write(Roi.whole(array.shape), array)
    volume = open_volume(tmp_path / f"cell{suffix}")
    volume.read()

    twin = pickle.loads(pickle.dumps(volume))

    np.testing.assert_array_equal(twin.read(), array)
    assert len(pickle.dumps(volume)) < 4000


def test_only_the_tiles_that_meet_the_region_are_read(tmp_path):
    array = np.random.default_rng(0).integers(0, 999, (2, 128, 128)).astype(np.uint16)
    path = tmp_path / "cell.tif"
    tifffile.imwrite(path, array, compression="zlib", tile=(32, 32))
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[1]
        spans = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with path.open("r+b") as file:  # spoil every tile of slice 1 but the sixth
        for index, (offset, count) in enumerate(spans):
            if index != 5:
                file.seek(offset)
                file.write(b"\xff" * count)

    part = open_volume(path).array[1, 32:64, 32:64]

    np.testing.assert_array_equal(part, array[1, 32:64, 32:64])


def test_a_strip_is_read_alone_and_big_endian_voxels_are_native(tmp_path):
    array = np.random.default_rng(0).integers(0, 999, (2, 64, 48)).astype(np.uint16)
    path = tmp_path / "cell.tif"
    tifffile.imwrite(path, array, compression="lzw", rowsperstrip=8, byteorder=">")

    volume = open_volume(path)

    np.testing.assert_array_equal(volume.array[:, 13:41, 7:9], array[:, 13:41, 7:9])
    assert volume.read().dtype.isnative


def test_a_packed_nifti_is_unpacked_once(tmp_path):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = tmp_path / "cell.nii.gz"
    nib.save(nib.Nifti1Image(array.T, np.eye(4)), path)
    volume = open_volume(path)
    first = volume.array[1]
    path.write_bytes(struct.pack("<i", 0))

    np.testing.assert_array_equal(volume.array[2], array[2])
    np.testing.assert_array_equal(first, array[1])

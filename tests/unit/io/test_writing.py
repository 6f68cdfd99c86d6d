"""Volumes appear complete or not at all, exact, whatever the order of the regions."""

import errno
import multiprocessing
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from h5py import Dataset

from cellseg3d.core.errors import CoverageError, EnvironmentFault, FormatError
from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.output.raw_sink import RawSink
from cellseg3d.io.output.region_writer import partial_path
from cellseg3d.io.registry import (
    create_volume,
    open_volume,
    read_labels,
    read_volume,
    write_labels,
    write_volume,
)

SUFFIXES = (".tif", ".ome.tif", ".nii", ".nii.gz", ".mrc", ".h5", ".zarr", "")
SHAPE = (40, 33, 27)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 60000, SHAPE).astype(np.uint16)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_regions_in_any_order_make_the_whole(tmp_path, image, suffix):
    path = tmp_path / f"cell{suffix}"
    rois = list(blocks(SHAPE, (16, 20, 11)))
    random.Random(1).shuffle(rois)

    writer = create_volume(
        path,
        SHAPE,
        "u2",
        spacing=Spacing(0.3, 0.2, 0.1),
        intensity_unit="1/um",
        metadata={"simulated": True, "model": "unet"},
    )
    for roi in rois:
        writer.write(roi, image[roi.slices])
    assert not path.exists()
    writer.close()

    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, image)
    assert volume.spacing.is_close(Spacing(0.3, 0.2, 0.1), 1e-6)
    assert volume.intensity_unit == "1/um"
    assert volume.provenance["simulated"] is True
    assert volume.provenance["model"] == "unet"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_run_leaves_the_old_volume_and_nothing_else(tmp_path, image, suffix):
    path = write_volume(tmp_path / f"cell{suffix}", Volume(image))

    def stop_halfway():
        with create_volume(path, SHAPE, "u2") as writer:
            writer.write(Roi.at((0, 0, 0), (4, 4, 4)), np.ones((4, 4, 4), np.uint16))
            raise KeyError

    with pytest.raises(KeyError):
        stop_halfway()

    np.testing.assert_array_equal(read_volume(path).array, image)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_volume_is_replaced_by_a_new_one(tmp_path, image, suffix):
    path = write_volume(tmp_path / f"cell{suffix}", Volume(image))

    write_volume(path, Volume(image[:7] + 1, Spacing(1, 2, 3)))

    np.testing.assert_array_equal(read_volume(path).array, image[:7] + 1)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("largest", "dtype"),
    [
        (1, "u1"),
        (255, "u1"),
        (256, "u2"),
        (65535, "u2"),
        (65536, "u4"),
        (2**24 + 1, "u4"),
        (2**32, "u8"),
    ],
)
def test_labels_are_exact_in_the_smallest_type(tmp_path, suffix, largest, dtype):
    labels = np.zeros((3, 5, 4), np.int64)
    labels[1] = largest
    labels[2, 1, 1] = largest - 1
    path = tmp_path / f"labels{suffix}"
    limit = {".mrc": 65535, "": 65535}.get(suffix, 2**63)

    if largest > limit:
        with pytest.raises(FormatError, match="choose"):
            write_labels(path, Volume(labels))
        assert list(tmp_path.iterdir()) == []
        return
    write_labels(path, Volume(labels))

    found = read_labels(path)
    np.testing.assert_array_equal(found.array, labels)
    assert found.dtype == np.dtype(dtype)
    assert open_volume(path).dtype.itemsize <= max(np.dtype(dtype).itemsize, 2)


def test_a_value_that_does_not_fit_is_refused_not_cut(tmp_path, image):
    with create_volume(tmp_path / "cell.mrc", SHAPE, "u2") as writer:
        with pytest.raises(FormatError, match="70000"):
            writer.write(Roi.whole(SHAPE), np.full(SHAPE, 70000))
        with pytest.raises(FormatError, match=r"0\.5"):
            writer.write(Roi.whole(SHAPE), np.full(SHAPE, 0.5))
        writer.write(Roi.whole(SHAPE), image.astype(np.float64))

    np.testing.assert_array_equal(read_volume(tmp_path / "cell.mrc").array, image)


@pytest.mark.parametrize("suffix", [".mrc", ".nii"])
def test_a_format_that_cannot_hold_a_dtype_says_which_can(tmp_path, suffix):
    dtype = {".mrc": np.float64, ".nii": np.float16}[suffix]

    with pytest.raises(
        FormatError, match=rf"cell{suffix}: .* cannot hold .*choose"
    ) as caught:
        write_volume(tmp_path / f"cell{suffix}", Volume(np.ones((2, 3, 4), dtype)))

    assert "partial" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_region_outside_or_of_another_shape_is_refused(tmp_path, image):
    with create_volume(tmp_path / "cell.h5", SHAPE, "u2") as writer:
        with pytest.raises(CoverageError):
            writer.write(Roi.at((30, 0, 0), (20, 33, 27)), image[:20])
        with pytest.raises(CoverageError):
            writer.write(Roi.at((0, 0, 0), (20, 33, 27)), image[:19])
        writer.write(Roi.whole(SHAPE), image)

    np.testing.assert_array_equal(read_volume(tmp_path / "cell.h5").array, image)


def test_a_full_disk_is_said_and_the_old_file_stands(tmp_path, image, monkeypatch):
    path = write_volume(tmp_path / "cell.mrc", Volume(image))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RawSink, "write", full)
    with pytest.raises(EnvironmentFault, match="disk full"):
        write_volume(path, Volume(image + 1))

    np.testing.assert_array_equal(read_volume(path).array, image)
    assert [each.name for each in tmp_path.iterdir()] == ["cell.mrc"]


def test_a_missing_folder_is_said(tmp_path, image):
    with pytest.raises(EnvironmentFault, match="folder does not exist"):
        write_volume(tmp_path / "no" / "cell.tif", Volume(image))


def test_an_unknown_suffix_is_answered_with_those_known(tmp_path, image):
    with pytest.raises(FormatError, match=r"\.jpg.*\.mrc"):
        write_volume(tmp_path / "cell.jpg", Volume(image))


def test_processes_write_aligned_regions_at_once(tmp_path, image):
    path = tmp_path / "cell.zarr"
    writer = create_volume(path, SHAPE, "u2", chunk=(16, 16, 16))
    assert writer.unit == (16, 16, 16)
    rois = list(blocks(SHAPE, writer.unit))
    context = multiprocessing.get_context("spawn")

    with context.Pool(2) as pool:
        parts = [(roi, image[roi.slices]) for roi in rois]
        pool.starmap_async(writer.write, parts).get(timeout=60)
        pool.close()
        pool.join()
    writer.close()

    np.testing.assert_array_equal(read_volume(path).array, image)


# MRC has no unsigned bytes: they would be the 16 bits that are there already.
@pytest.mark.parametrize(("suffix", "other"), [(".zarr", "u1"), (".mrc", "f4")])
def test_an_unfinished_volume_is_resumed_and_another_refused(
    tmp_path, image, suffix, other
):
    path = tmp_path / f"cell{suffix}"
    first, second = Roi.at((0, 0, 0), (16, 33, 27)), Roi((16, 0, 0), SHAPE)
    writer = create_volume(path, SHAPE, "u2", chunk=(16, 33, 27), resume=True)
    writer.write(first, image[first.slices])
    assert not writer.resumed
    assert partial_path(path).exists()

    with pytest.raises(FormatError, match="unfinished volume"):
        create_volume(path, SHAPE, other, chunk=(16, 33, 27), resume=True)
    again = create_volume(path, SHAPE, "u2", chunk=(16, 33, 27), resume=True)
    assert again.resumed
    np.testing.assert_array_equal(again.array[first.slices], image[first.slices])
    again.write(second, image[second.slices])
    again.close()

    np.testing.assert_array_equal(read_volume(path).array, image)


def test_without_resume_an_unfinished_volume_is_begun_anew(tmp_path, image):
    path = tmp_path / "cell.zarr"
    create_volume(path, SHAPE, "u2").write(Roi.whole(SHAPE), image)

    create_volume(path, SHAPE, "u2").close()

    assert not np.asarray(read_volume(path).array).any()


@pytest.mark.parametrize("suffix", [".tif", ".nii", ".mrc", ".h5", ".zarr"])
def test_a_lazy_volume_is_copied_part_by_part(tmp_path, image, suffix, monkeypatch):
    monkeypatch.setattr("cellseg3d.io.output.writing.COPY_BYTES", 40_000)
    source = open_volume(write_volume(tmp_path / "source.mrc", Volume(image)))
    largest = []
    read = type(source.array.read).__call__

    def watched(self, box):
        part = read(self, box)
        largest.append(part.nbytes)
        return part

    monkeypatch.setattr(type(source.array.read), "__call__", watched)
    path = write_volume(tmp_path / f"copy{suffix}", source)
    assert max(largest) <= 40_000 or suffix == ".zarr"  # a shard is the least
    assert sum(largest) == image.nbytes

    np.testing.assert_array_equal(read_volume(path).array, image)


FULL = """
import resource, signal, sys
import numpy as np
from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
values = np.random.default_rng(0).integers(0, 60000, (32, 64, 64)).astype("u2")
try:
    write_volume(sys.argv[1], Volume(values))
except EnvironmentFault as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes there")
@pytest.mark.parametrize("size", [1000, 20_000, 100_000, 200_000])
@pytest.mark.parametrize("suffix", [".h5", ".tif", ".nii.gz", ".mrc"])
def test_a_file_that_may_not_grow_is_told_and_the_old_one_stands(
    tmp_path, image, suffix, size
):
    path = write_volume(tmp_path / f"cell{suffix}", Volume(image))

    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(size)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert str(path) in done.stdout
    assert "larger than this system allows" in done.stdout
    np.testing.assert_array_equal(read_volume(path).array, image)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_hdf5_that_gives_back_other_voxels_is_refused(tmp_path, image, monkeypatch):
    path = tmp_path / "cell.h5"
    real = Dataset.__getitem__

    def other(self, key):
        return real(self, key) + 1

    monkeypatch.setattr(Dataset, "__getitem__", other)

    with pytest.raises(EnvironmentFault, match="not those written"):
        write_volume(path, Volume(image))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".tif", ".zarr", ".h5", ".mrc"])
def test_a_file_that_another_process_wrote_meanwhile_is_kept(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    ones, twos = (Volume(np.full((3, 4, 5), n, np.uint8)) for n in (1, 2))
    writer = create_volume(path, (3, 4, 5), np.uint8)
    writer.write(Roi.whole((3, 4, 5)), twos.array)
    write_volume(tmp_path / f"other{suffix}", ones)
    (tmp_path / f"other{suffix}").rename(path)

    with pytest.raises(EnvironmentFault, match="another process wrote it"):
        writer.close()

    assert np.unique(open_volume(path).read()).tolist() == [1]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]

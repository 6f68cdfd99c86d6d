"""Whichever call to the system fails, a reader sees the old volume or the new one."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from cellseg3d.core.atomic import OLD_MARK, temporary_name
from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import create_volume, read_volume, write_volume

SHAPE = (6, 7, 8)
OLD = np.full(SHAPE, 3, np.uint16)
NEW = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
CALLS = [
    (os, "fsync"),
    (os, "truncate"),
    (Path, "open"),
    (Path, "replace"),
    (Path, "rename"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (np, "memmap"),
]


class FailsOnce:
    """Lets calls through but the n-th, which meets a full or broken disk."""

    def __init__(self, monkeypatch, number, code):
        self.left, self.code, self.met = number, code, False
        for owner, name in CALLS:
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, call):
        def wrapped(*args, **options):
            self.left -= 1
            if self.left == 0:
                self.met = True
                raise OSError(self.code, os.strerror(self.code))
            return call(*args, **options)

        return wrapped


def replace(path):
    with create_volume(path, SHAPE, "u2") as writer:
        for z in range(0, 6, 2):
            roi = Roi.at((z, 0, 0), (2, 7, 8))
            writer.write(roi, NEW[roi.slices])


def cases():
    for suffix in (".tif", ".nii", ".nii.gz", ".mrc", ".h5", ".zarr", ""):
        for code in (errno.ENOSPC, errno.EIO):
            slow = suffix == ".zarr" and code == errno.EIO
            yield pytest.param(suffix, code, marks=[pytest.mark.slow] if slow else [])


# zarr leaves coroutines behind when a write fails.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("suffix", "code"), list(cases()))
def test_each_call_fails_once(tmp_path, suffix, code):
    failures = 0
    for number in range(1, 60):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        path = write_volume(folder / f"cell{suffix}", Volume(OLD))

        with pytest.MonkeyPatch.context() as monkeypatch:
            fails = FailsOnce(monkeypatch, number, code)
            try:
                replace(path)
            except EnvironmentFault as error:
                assert str(path) in str(error)  # noqa: PT017
                failures += 1

        found = read_volume(path).array
        assert np.array_equal(found, OLD) or np.array_equal(found, NEW)
        assert [each.name for each in folder.iterdir() if each.name == path.name]
        replace(path)
        np.testing.assert_array_equal(read_volume(path).array, NEW)
        assert [each.name for each in folder.iterdir()] == [path.name]
        if not fails.met:
            break
    assert failures >= 2


def test_a_folder_set_aside_by_a_killed_process_comes_back(tmp_path):
    path = write_volume(tmp_path / "cell.zarr", Volume(OLD))
    path.rename(temporary_name(path, OLD_MARK))

    create_volume(path, SHAPE, "u2").abort()

    np.testing.assert_array_equal(read_volume(path).array, OLD)
    assert [each.name for each in tmp_path.iterdir()] == ["cell.zarr"]

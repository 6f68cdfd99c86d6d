"""A fingerprint changes when a file inside changes, whatever the folder's own times."""

import os

import numpy as np
import pytest

from cellseg3d.core.errors import InputError
from cellseg3d.core.volume import Volume
from cellseg3d.io import fingerprint as module
from cellseg3d.io.fingerprint import fingerprint, unchanged
from cellseg3d.io.registry import write_volume

VALUES = np.arange(4 * 6 * 6, dtype=np.uint16).reshape(4, 6, 6)


def inner_file(path):
    return max((each for each in path.rglob("*") if each.is_file()), key=str)


@pytest.mark.parametrize("cheap", [True, False])
@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "slices"])
def test_an_edit_in_place_is_seen(tmp_path, monkeypatch, name, cheap):
    monkeypatch.setattr(module, "CHEAP_BYTES", 2**20 if cheap else 0)
    path = write_volume(tmp_path / name, Volume(VALUES))
    before, outside = fingerprint(path), path.stat()
    file = inner_file(path) if path.is_dir() else path
    content = bytearray(file.read_bytes())
    content[-1] ^= 1

    file.write_bytes(content)
    if path.is_dir():  # what the folder itself says is what it was
        os.utime(path, ns=(outside.st_atime_ns, outside.st_mtime_ns))

    assert fingerprint(path) != before
    assert fingerprint(f"{path}::raw") == fingerprint(path)


def test_a_copy_has_the_same_and_what_browsers_leave_counts_nothing(tmp_path):
    first = write_volume(tmp_path / "a", Volume(VALUES))
    second = write_volume(tmp_path / "b", Volume(VALUES))
    (second / ".DS_Store").write_text("litter")

    assert fingerprint(first) == fingerprint(second)


def test_a_change_during_work_is_told(tmp_path):
    path = write_volume(tmp_path / "a.zarr", Volume(VALUES))

    with unchanged([path]):
        pass
    changed = pytest.raises(InputError, match=r"a\.zarr: was changed while it was")
    with changed, unchanged([path]):
        inner_file(path).write_bytes(b"other")

"""A run folder belongs to one run, and no accident keeps it for ever."""

import json
import os
import socket

import pytest

from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.runs.lock import RunLock


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_lock_that_names_nobody_is_taken_over(tmp_path, text):
    (tmp_path / ".lock").write_text(text)

    with RunLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()

    assert not list(tmp_path.iterdir())


def test_a_living_process_and_another_host_keep_theirs(tmp_path):
    for owner in (
        {"host": socket.gethostname(), "pid": os.getppid()},
        {"host": "elsewhere", "pid": 1},
    ):
        (tmp_path / ".lock").write_text(json.dumps(owner))
        with pytest.raises(EnvironmentFault, match="in use by process"):
            RunLock(tmp_path).acquire()
        assert json.loads((tmp_path / ".lock").read_text()) == owner


def test_a_process_may_hold_a_folder_twice(tmp_path):
    place = tmp_path / "run"
    with RunLock(place):
        with RunLock(place):
            pass
        assert (place / ".lock").exists()

    assert not place.exists()

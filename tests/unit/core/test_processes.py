import os
import subprocess
import sys
import time

import psutil
import pytest

from cellseg3d.core.memory import peak_bytes, resident_bytes
from cellseg3d.core.processes import is_alive, usable_cores


def test_a_process_lives_until_it_ends_though_nobody_has_waited_for_it():
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True
    )
    assert is_alive(os.getpid())
    assert is_alive(child.pid)

    child.stdin.close()
    patience_s = time.monotonic() + 30
    while is_alive(child.pid) and time.monotonic() < patience_s:
        time.sleep(0.01)

    # On Unix it is a zombie now, still listed.
    assert not is_alive(child.pid)
    child.wait()
    assert not is_alive(child.pid)


@pytest.mark.parametrize("pid", [-1, 2**40])
def test_no_process_has_such_a_number(pid):
    assert not is_alive(pid)


def test_a_process_of_somebody_else_is_left_alone(monkeypatch):
    def refuse(_process):
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "status", refuse)

    assert is_alive(os.getpid())


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda _: [0, 3, 4])

    assert usable_cores() == 3


def test_memory_that_is_taken_is_counted_and_its_peak_stays():
    # A fresh process: in this one, memory that was freed before may be taken again.
    code = """
from cellseg3d.core.memory import peak_bytes, resident_bytes
before = resident_bytes()
taken = bytearray(b"x") * 2**27
during = resident_bytes()
del taken
assert during - before > 0.9 * 2**27, during - before
assert peak_bytes() >= during - 2**20
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_module_of_unix_the_peak_is_what_is_held_now(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)

    assert abs(peak_bytes() - resident_bytes()) < 2**23

import subprocess
import sys
import time

import psutil
import pytest

from cellseg3d.benchmark.process import run_process, run_verb
from cellseg3d.core.errors import CellSegError


def test_a_command_is_weighed_by_itself_not_with_its_parent(tmp_path):
    held = bytearray(200 * 2**20)  # this process is larger than the command
    code = "import time; x = bytearray(64 * 2**20); time.sleep(0.2)"

    cost = run_process([sys.executable, "-S", "-c", code], tmp_path / "log")

    assert len(held) > 64 * 2**20
    assert 0.0625 < cost.peak_gib < 0.12
    assert 0.2 < cost.elapsed_s < 10
    assert 0 < cost.cpu_s < 5


def test_a_failure_says_the_last_line_and_where_to_look(tmp_path):
    code = "print('first'); raise SystemExit('no such thing')"

    with pytest.raises(CellSegError, match=r"ended in 1: no such thing") as caught:
        run_process([sys.executable, "-c", code], tmp_path / "log.txt")

    assert str(tmp_path / "log.txt") in str(caught.value)
    assert (tmp_path / "log.txt").read_text().startswith("first")


def test_verbs_run_as_a_user_runs_them(tmp_path):
    run_verb(["--version"], tmp_path / "log")

    assert (tmp_path / "log").read_text().startswith("cellseg3d ")


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_a_benchmark_that_is_killed_leaves_no_command_behind(tmp_path):
    sleeper = (
        "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(90)"
    )
    code = (
        "import sys; from pathlib import Path\n"
        "from cellseg3d.benchmark.process import run_process\n"
        f"run_process([sys.executable, '-S', '-c', {sleeper!r}], Path('log'))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text())
    child = psutil.Process(int(pid.read_text()))

    parent.kill()
    parent.wait()

    wait_until(lambda: not child.is_running() or child.status() == "zombie")


def wait_until(done, seconds=30):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)

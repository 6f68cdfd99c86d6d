"""Run a command in its own process and measure its time and memory."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cellseg3d.benchmark import weigh
from cellseg3d.core.errors import CellSegError, EnvironmentFault

# What `weigh` and the end of an interrupted command are made of.
_UNIX_CALLS = ("killpg", "posix_spawnp", "wait4")


@dataclass(frozen=True)
class Cost:
    """The time and memory that a command used.

    Parameters
    ----------
    elapsed_s : float
        Wall time, including the start of the process.
    cpu_s : float
        Processor time of the process and of its children that have ended.
    peak_gib : float
        Largest resident memory of any one of these processes.
    """

    elapsed_s: float
    cpu_s: float
    peak_gib: float

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name, rounded to milliseconds and MiB."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def require_measuring() -> None:
    """Refuse a system on which the cost of a process cannot be measured.

    Raises
    ------
    EnvironmentFault
        With the calls of Unix that are missing.
    """
    missing = [name for name in _UNIX_CALLS if not hasattr(os, name)]
    if missing:
        message = (
            f"benchmark: {sys.platform} lacks os.{', os.'.join(missing)}, which "
            "measure the time and memory of a process; run it on Linux or macOS, or "
            "give `tables_only` to make tables of the records that are there"
        )
        raise EnvironmentFault(message)


def run_verb(words: Sequence[str], log: Path) -> Cost:
    """Run ``cellseg3d WORDS`` and return its cost.

    Parameters
    ----------
    words : sequence of str
        The command and its options.
    log : Path
        File for the command's output; the error message names it.

    Raises
    ------
    CellSegError
        If the exit code is not 0.
    """
    return run_process([sys.executable, "-m", "cellseg3d", *words], log)


def run_process(command: Sequence[str], log: Path) -> Cost:
    """Run any command, its output into `log`, and return its cost.

    An interruption also ends the command and everything that it started.

    Parameters
    ----------
    command : sequence of str
    log : Path
        File that the output is appended to.

    Raises
    ------
    CellSegError
        If the exit code is not 0.
    """
    place = log.with_name(f".{log.name}.cost")
    launcher = [sys.executable, str(Path(weigh.__file__).resolve()), str(place)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*launcher, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    if code != 0:
        raise CellSegError(_complaint(command, code, log))
    cost = Cost(**json.loads(place.read_text(encoding="utf-8")))
    place.unlink()
    return cost


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children; kill them if they do not end when asked."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _complaint(command: Sequence[str], code: int, log: Path) -> str:
    """Return one line with the command, its exit code, its last output and the log."""
    name = Path(command[0]).name
    words = " ".join([name, *command[1:4]])
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{log}: '{words} ...' ended in {code}: {said.strip()[:300]}"

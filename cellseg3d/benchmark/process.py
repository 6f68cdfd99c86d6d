"""Run a command in a process of its own; time it, weigh it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cellseg3d.core.errors import CellSegError

# ru_maxrss is in KiB on Linux, in bytes on macOS.
RSS_PER_GIB = 2**30 if sys.platform == "darwin" else 2**20


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Parameters
    ----------
    elapsed_s : float
        Wall time, start of the process included.
    cpu_s : float
        Processor time of the process and of those it waited for.
    peak_gib : float
        Largest resident memory of one process.
    """

    elapsed_s: float
    cpu_s: float
    peak_gib: float

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name, to the millisecond and the MiB."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def run_verb(words: Sequence[str], log: Path) -> Cost:
    """Run ``cellseg3d WORDS`` and return its cost.

    Parameters
    ----------
    words : sequence of str
        Verb and options.
    log : Path
        Where its output goes; the message names it when the command fails.

    Raises
    ------
    CellSegError
        If the command ends in anything but 0.
    """
    return run_process([sys.executable, "-m", "cellseg3d", *words], log)


def run_process(
    command: Sequence[str], log: Path, extra: Mapping[str, str] | None = None
) -> Cost:
    """Run any command, its output into `log`, and return its cost.

    An interruption ends the command and everything that it started.

    Parameters
    ----------
    command : sequence of str
    log : Path
        Appended to.
    extra : mapping, optional
        Environment variables on top of this process's.

    Raises
    ------
    CellSegError
        If the command ends in anything but 0.
    """
    begin = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(extra or {})},
            start_new_session=True,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _end(process)
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise CellSegError(_complaint(command, process.returncode, log))
    return Cost(
        elapsed_s=time.monotonic() - begin,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_gib=usage.ru_maxrss / RSS_PER_GIB,
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children: asked first, then made to."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _complaint(command: Sequence[str], code: int, log: Path) -> str:
    """Return one line: which command, how it ended, the last it said, where to look."""
    name = Path(command[0]).name
    words = " ".join([name, *command[1:4]])
    lines = log.read_text(errors="replace").strip().splitlines()
    said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{log}: '{words} ...' ended in {code}: {said.strip()[:300]}"

"""Run a command of this package in a process of its own; time it, weigh it."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellseg3d.core.errors import CellSegError

KIB_PER_GIB = 2**20


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Parameters
    ----------
    elapsed_s : float
        Wall time.
    cpu_s : float
        Processor time of the process and those it waited for.
    peak_gib : float
        Largest resident memory of one process.
    """

    elapsed_s: float
    cpu_s: float
    peak_gib: float


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


def run_process(command: Sequence[str], log: Path) -> Cost:
    """Run any command, its output into `log`, and return its cost.

    Raises
    ------
    CellSegError
        If the command ends in anything but 0.
    """
    begin = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text(errors="replace").strip().splitlines()[-1:]
        message = f"{log}: {' '.join(command[:4])} ... ended in {process.returncode}"
        raise CellSegError(f"{message}: {' '.join(tail)}")
    return Cost(
        elapsed_s=time.monotonic() - begin,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_gib=usage.ru_maxrss / KIB_PER_GIB,
    )

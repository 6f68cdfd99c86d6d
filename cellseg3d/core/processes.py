"""Which processes of this machine live, which processor and cores they may use."""

import contextlib
import os
import platform
from pathlib import Path

import psutil

# A clock may be corrected by this between the start of a process and its first file.
_SLACK_S = 2.0


def is_alive(pid: int, seen_at: float | None = None) -> bool:
    """Return whether a process of this machine runs.

    A zombie, which has ended and is still listed, does not. Nothing is sent to the
    process: the customary ``os.kill(pid, 0)`` may end it on Windows.

    Parameters
    ----------
    pid : int
    seen_at : float, optional
        A time, in seconds since the epoch, at which the process meant was there. One
        that began later has only taken over its number.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(seen_at is None or process.create_time() <= seen_at + _SLACK_S)
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False


def usable_cores() -> int:
    """Return how many cores this process may use."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # macOS has none
        return len(process.cpu_affinity())
    return os.cpu_count() or 1


def processor_name() -> str:
    """Return the name of this machine's processor, or else of its kind."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

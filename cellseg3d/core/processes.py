"""Which processes of this machine live, and how many cores they may use."""

import os

import psutil


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine runs.

    A zombie, which has ended and is still listed, does not. Nothing is sent to the
    process: the customary ``os.kill(pid, 0)`` may end it on Windows.
    """
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
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

"""Which processes of this machine live, how to end them, how many cores there are."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil

# A clock may be corrected by this between the start of a process and its first file.
_SLACK_S = 2.0
_GRACE_S = 10.0


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


def end_children(pid: int | None = None) -> None:
    """End all that a process has started: they are asked first, then made to.

    Parameters
    ----------
    pid : int, optional
        The process, which goes on itself; this one when None.
    """
    try:
        children = psutil.Process(pid or os.getpid()).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    _end(children)


def end_with_children(pid: int) -> None:
    """End a process and all that it has started: asked first, then made to."""
    try:
        process = psutil.Process(pid)
        children = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return
    _end([process, *children])


def _end(processes: Iterable[psutil.Process]) -> None:
    waiting = list(processes)
    for process in waiting:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(waiting, timeout=_GRACE_S)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_GRACE_S)

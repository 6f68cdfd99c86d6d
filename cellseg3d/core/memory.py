"""Measure the available memory, and refuse a task that needs more of it."""

import sys
from pathlib import Path

import psutil

from cellseg3d.core.errors import EnvironmentFault

_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Return how many bytes of memory this process may still use.

    This is the smaller of the machine's free memory and what is left of a container's
    limit.
    """
    return min(int(psutil.virtual_memory().available), _group_bytes())


def resident_bytes() -> int:
    """Return the memory that this process holds now, in bytes."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """Return the most memory that this process and any one child have held, in bytes.

    Where the system does not tell the peak, it is what the process holds now.
    """
    info = psutil.Process().memory_info()
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return int(getattr(info, "peak_wset", info.rss))
    unit = 1 if sys.platform == "darwin" else 1024
    users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * sum(resource.getrusage(user).ru_maxrss for user in users)


def check_memory(needed: int, what: str, *, share: float = 0.9) -> None:
    """Refuse a task that needs more memory than is available, before it begins.

    Parameters
    ----------
    needed : int
        Bytes that the task will use.
    what : str
        Name of the file or of the task; the message begins with it.
    share : float
        The part of the available memory that may be used, in (0, 1].

    Raises
    ------
    EnvironmentFault
        If the task needs more; the message holds both figures.
    """
    free = available_bytes()
    if needed > share * free:
        raise EnvironmentFault(
            f"{what}: needs {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB "
            "are available; read it region by region (.zarr), or crop it"
        )


def _group_bytes() -> int:
    """Return what a container's limit leaves; more than any machine has without one."""
    try:
        limit = (_GROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 2**63
    return 2**63 if limit == "max" else max(0, int(limit) - used)

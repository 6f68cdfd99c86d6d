"""Measure the available memory, and refuse a task that needs more of it."""

import os
from pathlib import Path

from cellseg3d.core.errors import EnvironmentFault

_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Return how many bytes of memory this process may still use.

    This is the smaller of the machine's free memory and what is left of a container's
    limit.
    """
    return min(_machine_bytes(), _group_bytes())


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


def _machine_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**21
    return pages * (os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096)


def _group_bytes() -> int:
    try:
        limit = (_GROUP / "memory.max").read_text().strip()
        used = int((_GROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return 2**63
    return 2**63 if limit == "max" else max(0, int(limit) - used)

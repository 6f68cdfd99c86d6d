"""Ask the C library to keep the memory of one window for the next, but not more."""

import contextlib
import ctypes
import functools
import gc
import logging
import os
import platform
from dataclasses import dataclass

from cellseg3d.core.memory import resident_bytes

_log = logging.getLogger(__name__)
# Numbers of glibc's mallopt.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_KEPT = 2**30
# Bytes that lie between two windows, at most, unless the user allows more: a window
# of the default U-Net needs about 110 MiB, and what stays of others splits the heap.
# At 140 MiB, handing back after nearly every window cost 13 % of the time at 400^3.
SPARE = 180 * 2**20
# Bytes that lie between two windows while much else is held: about one window.
LEAST = 80 * 2**20
# Layers whose code oneDNN keeps: those of one window of the default U-Net, whose first
# and last planes have layers of their own.
PRIMITIVES = 128


@functools.cache
def keep_memory() -> bool:
    """Let glibc reuse freed features instead of handing them back to the system.

    Otherwise every large array is new memory that the system clears page by page,
    a third of a prediction's time. Up to 1 GiB that is free stays with the process
    until `bound_memory` finds it too much. Elsewhere than on glibc nothing happens.

    Returns
    -------
    bool
        Whether it was done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    done = bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
    _log.debug("glibc keeps freed memory: %s", done)
    return done


@dataclass
class _Bound:
    """The resident memory at which free memory is handed back; a process has one heap.

    Parameters
    ----------
    resident : int or None
        Bytes; None for no bound.
    """

    resident: int | None = None


_bound = _Bound()


def give_back(limit: int | None = None, held: int = 0) -> None:
    """Hand all free memory back, and bound what is kept between windows from now on.

    After work that will not come again, such as preparing networks: traced graphs
    refer to themselves, so they and their weights wait for the collector, and what is
    kept then splits the memory that windows reuse.

    Parameters
    ----------
    limit : int, optional
        Bytes that the process may take: half of what is left may be kept, for speed.
        Without it, a small fixed amount.
    held : int
        Bytes of what will be held all the while, such as sums of several sources.
    """
    gc.collect()
    _trim()
    now = resident_bytes()
    spare = max(SPARE, held + LEAST) if limit is None else max(0, limit - now) // 2
    _bound.resident = now + spare


def keep_few_primitives() -> None:
    """Let oneDNN keep the code of a few layers only; it asks once, at its first call.

    By default it keeps 1024, some 70 KiB each, which lie between the features of
    windows of all shapes and keep the heap from shrinking.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRIMITIVES))


def bound_memory() -> None:
    """Hand free memory back when more is kept than `give_back` has allowed.

    To be called between windows; costs the time in which the system clears the pages
    that the next window takes.
    """
    if _bound.resident is not None and resident_bytes() > _bound.resident:
        _trim()


def _trim() -> None:
    if platform.libc_ver()[0] == "glibc":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)

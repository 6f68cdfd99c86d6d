"""What the command line changes in its process; the library changes nothing there."""

import ctypes
import os
import platform

# Numbers of glibc's mallopt, and what its environment variables call the same.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
# Free memory at the end of the heap beyond which glibc hands it back to the system.
KEPT_BYTES = 2**28
SPIN_COUNT = "5000"


def tune_process() -> None:
    """Set up threads and memory of this process, and of those that it starts.

    Threads that spin long while they wait halve the speed of a machine that others
    share; those that sleep at once take a fifth more time to segment a tomogram.
    OpenMP reads its variable when torch loads, which is later.

    What an Apple GPU (``--device mps``, or a config that says so) has no operator for
    runs on the CPU; this, too, torch reads when it loads, and nowhere but there.

    glibc gives each large array memory of its own, which the system clears page by
    page: a third of a prediction's time. Told to take them from its heap, it uses the
    memory of one window for the next. Elsewhere than on glibc nothing happens.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    if platform.libc_ver()[0] != "glibc":
        return
    os.environ.setdefault("MALLOC_MMAP_MAX_", "0")
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(KEPT_BYTES))
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(MMAP_MAX, int(os.environ["MALLOC_MMAP_MAX_"]))
    mallopt(TRIM_THRESHOLD, int(os.environ["MALLOC_TRIM_THRESHOLD_"]))

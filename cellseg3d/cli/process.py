"""Set encoding, threads and memory of the process; only the command line does so."""

import ctypes
import os
import platform
import sys

# Numbers of two parameters of glibc's function mallopt.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
# glibc returns free memory at the end of the heap to the system from this size on.
KEPT_BYTES = 2**28
SPIN_COUNT = "5000"


def restart_in_utf8() -> None:
    """Start the process again in Python's UTF-8 mode, where file names need it.

    Without a UTF-8 locale, such as in a bare container or a cron job with ``LC_ALL=C``,
    Python reads an umlaut in a name as bytes that torch and safetensors refuse to
    write. With UTF-8 names, or where Python ignores its environment, nothing is done.
    """
    fits = sys.getfilesystemencoding().lower() == "utf-8"
    if fits or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def tune_process() -> None:
    """Set threads and memory of this process and of the processes that it starts.

    The function must run before torch is imported, which reads the variables once.

    - ``GOMP_SPINCOUNT`` limits how long an OpenMP thread spins while it waits. Long
      spinning halves the speed of a machine that others share; threads that sleep at
      once take a fifth more time to segment a tomogram.
    - ``PYTORCH_ENABLE_MPS_FALLBACK`` lets the CPU compute the operators that torch
      lacks on an Apple GPU (``--device mps``).
    - ``MALLOC_*`` and mallopt let glibc take large arrays from its heap, so that one
      window uses the memory of the one before. Otherwise the system clears new memory
      for each array, which takes a third of a prediction's time. Without glibc nothing
      is set.

    Variables that the user has set are kept.
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

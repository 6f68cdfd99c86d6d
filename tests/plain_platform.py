"""Run `cellseg3d` as on a system that lacks what only Unix has; a script for tests.

    python plain_platform.py LIST.JSON

Modules, files and calls that Windows does not have are missing, processes are started
with `spawn`, and what Windows refuses is refused: to flush a folder or a file that is
open for reading, and to rename or remove what this process has open. The list holds the
words of one command after another; the first that does not end in 0 ends the script.
"""


# It stands in for the system, below pathlib.
# ruff: noqa: PTH100, PTH112, PTH120, T201, F401, PLC0415, PLW0603

import builtins
import errno
import io
import json
import multiprocessing
import os
import sys
import traceback
from pathlib import Path

MISSING_MODULES = ("fcntl", "resource", "termios")
MISSING_CALLS = ("pread", "preadv", "pwrite", "pwritev", "sched_getaffinity", "sysconf")
MISSING_FOLDERS = ("/proc", "/sys")
real_open, real_os_open, real_fsync = io.open, os.open, os.fsync
real_kill = os.kill
real_listdir, real_readlink = os.listdir, os.readlink
for_reading: set[int] = set()
home = ""


def asked_by(package: str) -> bool:
    """Return whether a package asks that has parts of its own for each system."""
    frame = sys._getframe(2)
    while frame is not None:
        if f"/{package}/" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def refuse_missing(path: object) -> None:
    text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
    if text.startswith(MISSING_FOLDERS) and not asked_by("psutil"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)


def plain_open(file, *args, **options):
    refuse_missing(file)
    return real_open(file, *args, **options)


def plain_os_open(path, flags, *args, **options):
    refuse_missing(path)
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    handle = real_os_open(path, flags, *args, **options)
    reads = flags & (os.O_WRONLY | os.O_RDWR) == 0
    (for_reading.add if reads else for_reading.discard)(handle)
    return handle


def plain_fsync(handle):
    if handle in for_reading:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    real_fsync(handle)


def plain_kill(pid, number):
    if number == 0:
        raise AssertionError(f"os.kill({pid}, 0) ends a process on Windows")
    real_kill(pid, number)


def opened() -> set[str]:
    """Paths below the test's folder that this process has open or mapped."""
    found = set()
    for name in real_listdir("/proc/self/fd"):
        try:
            found.add(real_readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    with real_open("/proc/self/maps", "rb") as file:
        for line in file:
            found.add(os.fsdecode(line.rstrip(b"\n").split(maxsplit=5)[-1]))
    return {path for path in found if path.startswith(home)}


def refuse_open(call):
    """Return a call that refuses, as Windows does, when one of its paths is open."""

    def guarded(*paths, **options):
        places = [os.path.abspath(os.fsdecode(each)) for each in paths[:2]]
        ours = any(place.startswith(home) for place in places)
        if ours and not asked_by("filelock"):
            for path in opened():
                for place in places:
                    if path == place or path.startswith(place + os.sep):
                        message = f"{call.__name__} of {place}: {path} is open"
                        traceback.print_stack()
                        raise AssertionError(message)
        return call(*paths, **options)

    return guarded


def become_plain() -> None:
    import psutil

    for name in MISSING_MODULES:
        sys.modules[name] = None
    for name in MISSING_CALLS:
        if hasattr(os, name):
            delattr(os, name)
    builtins.open = io.open = plain_open
    os.open, os.fsync, os.kill = plain_os_open, plain_fsync, plain_kill
    if Path("/proc/self/maps").exists():
        for name in ("rename", "replace", "unlink", "remove"):
            setattr(os, name, refuse_open(getattr(os, name)))
    multiprocessing.set_start_method("spawn")


def main(file: str) -> int:
    global home
    home = os.path.abspath(os.path.dirname(file))
    with real_open(file, encoding="utf-8") as stream:
        commands = json.load(stream)
    become_plain()
    from cellseg3d.cli.main import main as run

    for words in commands:
        # The script's list is UTF-8; a command line comes in the locale's letters.
        code = run([os.fsdecode(word.encode()) for word in words])
        print(f"{words[0]} ended in {code}", flush=True)
        if code != 0:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

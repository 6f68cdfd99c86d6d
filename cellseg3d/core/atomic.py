"""Write a file or a folder so that a reader sees the old one or the new one."""

import errno
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.processes import is_alive

MARK = ".cellseg3d-tmp-"
# A folder that makes room for its successor; the only copy, for a moment.
OLD_MARK = ".cellseg3d-old-"


def atomic_write(
    path: Path,
    writer: Callable[[Path], None],
    *,
    verify: Callable[[Path], None] | None = None,
    keep_previous: bool = False,
) -> None:
    """Write a file under a temporary name, check it, then give it its name.

    Parameters
    ----------
    path : Path
        The file to make or replace; its folder exists.
    writer : callable
        Given a path in the same folder with the same suffixes, writes the file.
    verify : callable, optional
        Given the written path, raises if what lies there cannot be read back.
    keep_previous : bool
        Keep the file that stood there as ``NAME.prev``.

    Raises
    ------
    EnvironmentFault
        If the disk is full or the folder cannot be written; the old file stands.
    """
    temporary = temporary_name(path)
    try:
        writer(temporary)
        sync(temporary)
        if verify is not None:
            verify(temporary)
        if keep_previous and path.exists():
            _replace_link(path)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise environment_fault(error, path) from error
    finally:
        with suppress(OSError):  # what was refused above is what the user must know
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises
    ------
    EnvironmentFault
        If the system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise environment_fault(error, folder) from error


def temporary_name(path: Path, mark: str = MARK) -> Path:
    """Return a name beside `path` that no other call returns, with its suffixes.

    It names this process, so that what a dead one left can be told from what a
    living one writes; and a hash of the name that `path` has, see `writer_of`.
    """
    token = f"{os.getpid()}-{_key(path)}{uuid.uuid4().hex[:8]}"
    name = f".{mark}{socket.gethostname()}-{token}{''.join(path.suffixes[-2:])}"
    return path.with_name(name)


def sweep_orphans(folder: Path) -> list[Path]:
    """Remove temporary files that a process of this host, now dead, left behind.

    Returns
    -------
    list of Path
        What was removed.
    """
    removed = []
    for path, pid in _temporaries(folder, MARK):
        if not _writes(path, pid):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    return removed


def writer_of(path: Path) -> int | None:
    """Return the number of another living process that writes `path`, or None."""
    for temporary, pid in _temporaries(path.parent, MARK):
        ours = f"-{pid}-{_key(path)}" in temporary.name
        if ours and pid != os.getpid() and _writes(temporary, pid):
            return pid
    return None


def set_aside(path: Path) -> list[Path]:
    """Return the folders that dead processes set aside to replace `path`."""
    return [
        old
        for old, pid in _temporaries(path.parent, OLD_MARK)
        if f"-{pid}-{_key(path)}" in old.name
        and (pid == os.getpid() or not is_alive(pid))
    ]


def _temporaries(folder: Path, mark: str) -> Iterator[tuple[Path, int]]:
    """Yield what processes of this host have under temporary names, and their pids."""
    prefix = f".{mark}{socket.gethostname()}-"
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            pid = path.name.removeprefix(prefix).split("-")[0]
            if path.name.startswith(prefix) and pid.isdigit():
                yield path, int(pid)


def _writes(path: Path, pid: int) -> bool:
    """Whether the process that made a temporary file is alive."""
    try:
        changed = path.stat().st_ctime  # not what a copy may set, as st_mtime
    except OSError:
        return is_alive(pid)
    return is_alive(pid, changed)


def _key(path: Path) -> str:
    return hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def environment_fault(error: OSError, path: Path) -> EnvironmentFault:
    """Return an error that says in the user's words what the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free / 2**20
        return EnvironmentFault(
            f"{path}: disk full, {free:.0f} MiB free; make room and run again"
        )
    if error.errno == errno.EFBIG:
        return EnvironmentFault(
            f"{path}: larger than this system allows a file to be; choose another disk"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EnvironmentFault(
            f"{path}: not allowed to write here; choose another folder"
        )
    return EnvironmentFault(f"{path}: cannot be written ({error.strerror or error})")


def _replace_link(path: Path) -> None:
    """Keep the present file as .prev without a moment in which neither is there."""
    previous = path.with_name(f"{path.name}.prev")
    link = temporary_name(previous)
    os.link(path, link)
    link.replace(previous)


def sync(path: Path) -> None:
    """Ask the system to put a file, or the names in a folder, on the disk."""
    is_folder = path.is_dir()
    try:
        # Windows flushes a file only for those who may write it, and no folder.
        handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    except PermissionError:
        if is_folder:
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

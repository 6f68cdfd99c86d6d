"""Write a file so that a reader sees either the whole old one or the whole new one."""

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
    """Write a file under a temporary name, check it, then rename it to `path`.

    Parameters
    ----------
    path : Path
        The file to create or replace. Its folder must exist.
    writer : callable
        Function that writes the file to the path it is given. That path lies in the
        same folder and ends in the same suffixes.
    verify : callable, optional
        Function that raises an error if it cannot read back the file it is given.
    keep_previous : bool
        Whether to keep the file that was there before as ``NAME.prev``.

    Raises
    ------
    EnvironmentFault
        If the disk is full or the folder cannot be written. The old file is kept.
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
        with suppress(OSError):  # the error raised above is the one to report
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8 and with one kind of line end.

    The file has the same bytes on every system. What no text can hold, such as a file
    name that is no UTF-8, is written with escapes.

    Parameters
    ----------
    path : Path
        The file to create or replace. Its folder must exist.
    text : str
        What the file shall hold.

    Raises
    ------
    EnvironmentFault
        If the disk is full or the folder cannot be written. The old file is kept.
    """

    def write(new: Path) -> None:
        new.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")

    atomic_write(path, write)


def make_folder(folder: Path) -> None:
    """Create a folder and its parent folders where they do not exist.

    Raises
    ------
    EnvironmentFault
        If the system does not allow it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise environment_fault(error, folder) from error


def temporary_name(path: Path, mark: str = MARK) -> Path:
    """Return a hidden name beside `path`, with its suffixes, that no other call gives.

    The name holds this process's id, so that `sweep_orphans` knows which files were
    left by a process that has ended. It also holds a hash of `path`'s own name, by
    which `writer_of` finds it.
    """
    token = f"{os.getpid()}-{_key(path)}{uuid.uuid4().hex[:8]}"
    name = f".{mark}{socket.gethostname()}-{token}{''.join(path.suffixes[-2:])}"
    return path.with_name(name)


def sweep_orphans(folder: Path) -> list[Path]:
    """Remove temporary files left behind by processes of this host that have ended.

    Returns
    -------
    list of Path
        The paths that were removed.
    """
    removed = []
    for path, pid in _temporaries(folder, MARK):
        if not _writes(path, pid):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    return removed


def writer_of(path: Path) -> int | None:
    """Return the id of another running process that is writing `path`, or None."""
    for temporary, pid in _temporaries(path.parent, MARK):
        ours = f"-{pid}-{_key(path)}" in temporary.name
        if ours and pid != os.getpid() and _writes(temporary, pid):
            return pid
    return None


def set_aside(path: Path) -> list[Path]:
    """Return old copies of `path` that processes that have ended had moved aside."""
    return [
        old
        for old, pid in _temporaries(path.parent, OLD_MARK)
        if f"-{pid}-{_key(path)}" in old.name
        and (pid == os.getpid() or not is_alive(pid))
    ]


def _temporaries(folder: Path, mark: str) -> Iterator[tuple[Path, int]]:
    """Yield the temporary files of processes of this host, with the process ids."""
    prefix = f".{mark}{socket.gethostname()}-"
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            pid = path.name.removeprefix(prefix).split("-")[0]
            if path.name.startswith(prefix) and pid.isdigit():
                yield path, int(pid)


def _writes(path: Path, pid: int) -> bool:
    """Return whether the process that made a temporary file is still running."""
    try:
        changed = path.stat().st_ctime  # a copy may set st_mtime, but not this
    except OSError:
        return is_alive(pid)
    return is_alive(pid, changed)


def _key(path: Path) -> str:
    return hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def environment_fault(error: OSError, path: Path) -> EnvironmentFault:
    """Return an error that explains in plain words why the system refused to write."""
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
    """Keep the present file as .prev; at every moment `path` itself exists."""
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

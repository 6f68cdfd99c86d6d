"""Write a file or a folder so that a reader sees the old one or the new one."""

import errno
import os
import shutil
import socket
import uuid
from collections.abc import Callable
from pathlib import Path

from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.processes import is_alive

MARK = ".cellseg3d-tmp-"


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
        if temporary.exists():
            temporary.unlink()


def temporary_name(path: Path) -> Path:
    """Return a name beside `path`, with its suffixes, that names this process."""
    token = f"{MARK}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{token}{''.join(path.suffixes[-2:])}")


def sweep_orphans(folder: Path) -> list[Path]:
    """Remove temporary files that a process of this host, now dead, left behind.

    Returns
    -------
    list of Path
        What was removed.
    """
    removed = []
    prefix = f".{MARK}{socket.gethostname()}-"
    for path in sorted(folder.glob(f"{prefix}*")):
        pid = path.name.removeprefix(prefix).split("-")[0]
        if pid.isdigit() and not is_alive(int(pid)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            removed.append(path)
    return removed


def environment_fault(error: OSError, path: Path) -> EnvironmentFault:
    """Return an error that says in the user's words what the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free / 2**20
        return EnvironmentFault(
            f"{path}: disk full, {free:.0f} MiB free; make room and run again"
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

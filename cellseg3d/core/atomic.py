"""Write a file so that a reader sees either the whole old one or the whole new one."""

import errno
import os
import shutil
import socket
import uuid
from collections.abc import Callable
from pathlib import Path

from cellseg3d.core.errors import EnvironmentFault

MARK = ".cellseg3d-tmp-"


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
        _sync(temporary)
        if verify is not None:
            verify(temporary)
        if keep_previous and path.exists():
            _replace_link(path)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise environment_fault(error, path) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def temporary_name(path: Path) -> Path:
    """Return a hidden name beside `path`, with its suffixes and this process's id."""
    token = f"{MARK}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{token}{''.join(path.suffixes[-2:])}")


def sweep_orphans(folder: Path) -> list[Path]:
    """Remove temporary files left behind by processes of this host that have ended.

    Returns
    -------
    list of Path
        The paths that were removed.
    """
    removed = []
    prefix = f".{MARK}{socket.gethostname()}-"
    for path in sorted(folder.glob(f"{prefix}*")):
        pid = path.name.removeprefix(prefix).split("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            removed.append(path)
    return removed


def environment_fault(error: OSError, path: Path) -> EnvironmentFault:
    """Return an error that explains in plain words why the system refused to write."""
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
    """Keep the present file as .prev; at every moment `path` itself exists."""
    previous = path.with_name(f"{path.name}.prev")
    link = temporary_name(previous)
    os.link(path, link)
    link.replace(previous)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

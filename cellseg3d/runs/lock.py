"""Lock a run folder, so that two trainings never write to one folder."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from cellseg3d.core.atomic import make_folder, temporary_name
from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.processes import is_alive

NAME = ".lock"
# The folders that this process has locked, and how many times.
_held: dict[Path, int] = {}


class RunLock:
    """A lock on a run folder; another process cannot take it meanwhile.

    The lock is a file that names its process and host. It is taken over if that process
    ran on this host and has ended, or if the file is empty, as a full disk leaves it. A
    lock of another host is never taken over. A process may lock a folder several times.

    Parameters
    ----------
    folder : Path
        The run folder; created if it does not exist.

    Examples
    --------
    >>> from pathlib import Path
    >>> from cellseg3d.runs.lock import RunLock
    >>> with RunLock(Path("run")) as lock:
    ...     lock.path.is_file()
    True
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self._held = False
        self._made = False

    def acquire(self) -> None:
        """Lock the folder.

        Raises
        ------
        EnvironmentFault
            If another process has locked it.
        """
        if self._held:
            return
        key = self.folder.resolve()
        if key not in _held:
            self._take()
        _held[key] = _held.get(key, 0) + 1
        self._held = True

    def _take(self) -> None:
        self._made = not self.folder.exists()
        make_folder(self.folder)
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        for _attempt in range(2):
            try:
                self._write(json.dumps(owner))
            except FileExistsError:
                self._refuse_or_clear()
                continue
            return
        message = (
            f"{self.folder}: another run has just started here; choose another folder"
        )
        raise EnvironmentFault(message)

    def _write(self, text: str) -> None:
        """Write the lock file in one step, so that nobody reads an incomplete one."""
        new = temporary_name(self.path)
        try:
            new.write_text(text, encoding="utf-8")
            try:
                os.link(new, self.path)
            except FileExistsError:
                raise
            except OSError:  # The file system has no links.
                with self.path.open("x", encoding="utf-8") as file:
                    file.write(text)
        finally:
            new.unlink(missing_ok=True)

    def release(self) -> None:
        """Unlock the folder; do nothing if this object has not locked it."""
        if not self._held:
            return
        self._held = False
        key = self.folder.resolve()
        _held[key] -= 1
        if not _held[key]:
            del _held[key]
            self.path.unlink(missing_ok=True)
            if self._made:  # A refused run leaves no empty folder behind.
                with suppress(OSError):
                    self.folder.rmdir()

    def __enter__(self) -> "RunLock":
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _refuse_or_clear(self) -> None:
        try:
            owner = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            owner = {}
        owner = owner if isinstance(owner, dict) else {}
        host, pid = owner.get("host"), owner.get("pid")
        here = host == socket.gethostname()
        dead = isinstance(pid, int) and not is_alive(pid, self._made_at())
        if not owner or (here and dead):
            self.path.unlink(missing_ok=True)
            return
        message = (
            f"{self.folder}: is in use by process {pid} on {host} since "
            f"{owner.get('started')}; wait for it, choose another folder, or delete "
            f"{self.path} if that process has ended"
        )
        raise EnvironmentFault(message)

    def _made_at(self) -> float | None:
        try:
            return self.path.stat().st_mtime
        except OSError:
            return None

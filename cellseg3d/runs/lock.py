"""A run folder belongs to one run."""

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.processes import is_alive

NAME = ".lock"


class RunLock:
    """Hold a run folder; a second run that is started there is refused.

    The lock names its owner. One whose process on this host has died is taken over;
    one of another host is named and left alone.

    Parameters
    ----------
    folder : Path
        The run folder; made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self._held = False

    def acquire(self) -> None:
        """Take the folder.

        Raises
        ------
        EnvironmentFault
            If another run holds it.
        """
        if self._held:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        for _attempt in range(2):
            try:
                with self.path.open("x", encoding="utf-8") as file:
                    json.dump(owner, file)
            except FileExistsError:
                self._refuse_or_clear()
                continue
            self._held = True
            return
        message = f"{self.folder}: another run has just started here; choose another"
        raise EnvironmentFault(message)

    def release(self) -> None:
        """Give the folder back; nothing happens when it is not held."""
        if self._held:
            self.path.unlink(missing_ok=True)
            self._held = False

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
        host, pid = owner.get("host"), owner.get("pid")
        if host == socket.gethostname() and isinstance(pid, int) and not is_alive(pid):
            self.path.unlink(missing_ok=True)
            return
        message = (
            f"{self.folder}: in use by process {pid} on {host} since "
            f"{owner.get('started')}; wait for it, choose another folder, or delete "
            f"{self.path} when that run is gone"
        )
        raise EnvironmentFault(message)

"""Keep a journal of the chunks that are done, so that a killed run can continue."""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi

NAME = "journal.jsonl"
_COMPLETE = {"complete": True}


class Journal:
    """A file with one line for each finished chunk, with a checksum of its voxels.

    Parameters
    ----------
    folder : Path
        The folder of the unfinished output.
    task : mapping
        A description of what is computed, ready for JSON: model hashes, input,
        windows. A journal of another task is not continued.
    """

    def __init__(self, folder: Path, task: Mapping[str, Any]) -> None:
        self.path = folder / NAME
        self.task = json.loads(json.dumps(task, sort_keys=True))
        self.done: dict[Roi, int] = {}
        self.complete = False

    def open(self, *, overwrite: bool = False) -> None:
        """Read the journal of this task, or begin a new one.

        Raises
        ------
        ConfigError
            If another task was begun here and `overwrite` is False.
        """
        lines = self._lines() if self.path.is_file() else []
        if lines and lines[0].get("task") == self.task:
            self.done = {_roi(line): line["crc"] for line in lines[1:] if "crc" in line}
            self.complete = _COMPLETE in lines
            return
        if lines and not overwrite:
            changed = sorted(
                key
                for key in {*self.task, *lines[0].get("task", {})}
                if self.task.get(key) != lines[0].get("task", {}).get(key)
            )
            message = (
                f"{self.path.parent}: holds an unfinished segmentation with another "
                f"{', '.join(changed)}; pass `overwrite` to start again"
            )
            raise ConfigError(message)
        self.done, self.complete = {}, False
        self.path.unlink(missing_ok=True)
        self._append({"task": self.task})

    def goes_on(self) -> bool:
        """Return whether this task is complete, and files only need to be moved."""
        lines = self._lines() if self.path.is_file() else []
        same = bool(lines) and lines[0].get("task") == self.task
        return same and _COMPLETE in lines

    def add(self, chunk: Roi, checksum: int) -> None:
        """Record that a chunk is written, with the checksum of its voxels."""
        self.done[chunk] = checksum
        self._append({"start": chunk.start, "stop": chunk.stop, "crc": checksum})

    def finish(self) -> None:
        """Record that all files are complete and can be moved to their names."""
        self.complete = True
        self._append(_COMPLETE)

    def _append(self, line: Mapping[str, Any]) -> None:
        # A line is one write, so a killed process leaves it whole or not at all.
        text = json.dumps(line) + "\n"
        with self.path.open("ab", buffering=0) as file:
            file.write(text.encode())
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        found = []
        for text in self.path.read_bytes().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                break  # A crash cut this line short; its chunk is computed again.
            if not _is_line(line):
                break
            found.append(line)
        return found


def checksum(*arrays: NDArray[Any]) -> int:
    """Return a checksum of the values of some arrays."""
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).data, total)
    return total


def _is_line(line: Any) -> bool:  # noqa: ANN401
    """Return whether a line is one that a journal writes."""
    if not isinstance(line, dict):
        return False
    if isinstance(line.get("task"), dict) or line == _COMPLETE:
        return True
    start, stop = line.get("start"), line.get("stop")
    if not isinstance(start, list) or not isinstance(stop, list):
        return False
    whole = all(type(number) is int for number in (*start, *stop, line.get("crc")))
    return whole and len(start) == len(stop) == 3


def _roi(line: Mapping[str, Any]) -> Roi:
    z, y, x = line["start"]
    end_z, end_y, end_x = line["stop"]
    return Roi((z, y, x), (end_z, end_y, end_x))

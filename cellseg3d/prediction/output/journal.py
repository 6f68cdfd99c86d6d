"""Keep a journal of the chunks that are done, so that a killed run can continue."""

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi

NAME = "journal.jsonl"
_COMPLETE = {"complete": True}


@dataclass(frozen=True)
class Finished:
    """A chunk that was computed.

    Parameters
    ----------
    chunk : Roi
    checksum : int
        The checksum of its voxels.
    arrays : list of ndarray or None
        Its voxels for each store; None if they were written already.
    sums : list of list of float or None
        What `cellseg3d.prediction.tally.sums_of` added up in it.
    """

    chunk: Roi
    checksum: int
    arrays: list[NDArray[Any]] | None = None
    sums: list[list[float]] | None = None


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
        self._sums: dict[Roi, Any] = {}
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
            chunks = [line for line in lines[1:] if "crc" in line]
            self.done = {_roi(line): line["crc"] for line in chunks}
            self._sums = {_roi(line): line.get("sums") for line in chunks}
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
        self.done, self._sums, self.complete = {}, {}, False
        self.path.unlink(missing_ok=True)
        self._append({"task": self.task})

    def goes_on(self) -> bool:
        """Return whether this task is complete, and files only need to be moved."""
        lines = self._lines() if self.path.is_file() else []
        same = bool(lines) and lines[0].get("task") == self.task
        return same and _COMPLETE in lines

    def add(self, done: Finished) -> None:
        """Record that a chunk is written, with the checksum of its voxels."""
        chunk = done.chunk
        self.done[chunk], self._sums[chunk] = done.checksum, done.sums
        line = {"start": chunk.start, "stop": chunk.stop, "crc": done.checksum}
        self._append(line if done.sums is None else {**line, "sums": done.sums})

    @property
    def sums(self) -> NDArray[np.float64] | None:
        """The sums of all chunks together; None if those of some chunk are missing."""
        order = sorted(self.done, key=lambda chunk: chunk.start)
        found = [self._sums.get(chunk) for chunk in order]
        if not found or any(each is None for each in found):
            return None
        total: NDArray[np.float64] = np.sum(np.array(found, np.float64), axis=0)
        return total

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

"""Keep decoded arrays on disk and reuse them while their source files are unchanged."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d import __version__
from cellseg3d.core.atomic import atomic_write, write_text
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Case, Datalist, split_inner

Arrays = tuple[
    NDArray[Any], NDArray[np.uint8] | None, dict[str, Any], NDArray[Any] | None
]


class ArrayCache:
    """A folder with the arrays of each case as ``.npy`` files.

    The arrays are found again only if nothing has changed that they depend on: names,
    sizes and times of the source files, label map, classes, target, spacing, and this
    package's version.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def find(
        self, case: Case, datalist: Datalist, target: Spacing | None
    ) -> Arrays | None:
        """Return the arrays of a case, memory-mapped; None when they are not there."""
        image, label, objects, facts = self._paths(case, datalist, target)
        if not facts.is_file():  # This file is written last.
            return None
        mapped = np.load(image, mmap_mode="r")
        marks, ids = (
            np.load(path, mmap_mode="r") if path.is_file() else None
            for path in (label, objects)
        )
        return mapped, marks, json.loads(facts.read_text(encoding="utf-8")), ids

    def keep(
        self, case: Case, datalist: Datalist, target: Spacing | None, arrays: Arrays
    ) -> Arrays:
        """Write the arrays of a case and return them memory-mapped.

        Raises
        ------
        EnvironmentFault
            If the folder cannot be written, or the disk is full.
        """
        image, label, objects, facts = self._paths(case, datalist, target)
        _save(image, arrays[0])
        for path, array in ((label, arrays[1]), (objects, arrays[3])):
            if array is not None:
                _save(path, array)
        text = json.dumps(arrays[2])
        write_text(facts, text)
        found = self.find(case, datalist, target)
        return arrays if found is None else found

    def _paths(
        self, case: Case, datalist: Datalist, target: Spacing | None
    ) -> tuple[Path, ...]:
        facts = {
            "version": __version__,
            "image": _fingerprint(case.image),
            "label": None if case.label is None else _fingerprint(case.label),
            "spacing": case.spacing and case.spacing.zyx,
            "opening": [
                case.channel,
                case.channels,
                case.read_as,
                case.annotated_slices,
            ],
            "target": target and target.zyx,
            "label_map": datalist.label_map and sorted(datalist.label_map.items()),
            "labels": datalist.labels,
            "classes": len(datalist.classes),
            "learned": asdict(datalist.target),
        }
        text = json.dumps(facts, sort_keys=True)
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        names = ("image.npy", "label.npy", "objects.npy", "x.json")
        return tuple(self.folder / f"{key}_{name}" for name in names)


def _fingerprint(location: str) -> list[Any]:
    file, inner = split_inner(location)
    found = sorted(file.rglob("*")) if file.is_dir() else [file]
    stats = [(str(path), path.stat()) for path in found if path.is_file()]
    files = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return [str(file.resolve()), inner, files]


def _save(path: Path, array: NDArray[Any]) -> None:
    atomic_write(path, lambda new: np.save(new, array))

"""Pieces of slices that a person corrects, and the folder that holds them."""

import csv
import io
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.atomic import write_text
from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.form import ANY, check_form
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.roi import Roi, zyx

FACTS = "review.json"
MARKS = "seen.csv"
PAGE = "index.html"
# Commands with which Fiji opens, paints and saves one piece after another.
MACRO = "correct_in_fiji.ijm"
# This folder holds the predicted labels, to tell which ones were corrected.
PREDICTED = "predicted"
COLUMNS = ("labels", "image", "volume", "axis", "slice", "uncertainty", "seen")
_FORM = {
    "classes": [str],
    "spacing_um": ([float], None),
    "volumes": dict,
    "channels?": {ANY: [(str, int)]},
    "pieces": [
        {
            **dict.fromkeys(("name", "volume"), str),
            "axis": ("z", "y", "x"),
            "start": [int],
            "stop": [int],
            "uncertainty": float,
        }
    ],
    "models": [dict],
}
_YES = ("1", "x", "y", "yes", "true", "seen")
_NO = ("", "0", "n", "no", "false")


@dataclass(frozen=True)
class Piece:
    """A part of one slice of a volume.

    Parameters
    ----------
    name : str
        A name that is unique in the review. The names of the piece's files begin with
        it.
    volume : str
        The absolute path of the volume's file.
    axis : str
        The axis across which the slice is cut.
    roi : Roi
        The piece's box in the volume, one voxel thick along `axis`.
    uncertainty : float
        Mean uncertainty of its voxels, in [0, 1], without thin lines along borders.
    """

    name: str
    volume: str
    axis: str
    roi: Roi
    uncertainty: float

    @property
    def slice_number(self) -> int:
        """The number of its slice along its axis."""
        return self.roi.start[axis_index(self.axis)]

    def flat(self, array_zyx: NDArray[Any]) -> NDArray[Any]:
        """Return an array of the piece's box as a slice, shape (rows, columns).

        An array (C, z, y, x) of several channels becomes one (C, rows, columns).
        """
        return array_zyx.squeeze(axis_index(self.axis) - 3)

    def upright(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a slice (rows, columns) as an array of the piece's box."""
        return np.expand_dims(array, axis_index(self.axis))

    def image_file(self, folder: Path) -> Path:
        """Return the file of its image in the folder of a review."""
        return folder / f"{self.name}.tif"

    def labels_file(self, folder: Path) -> Path:
        """Return the file of the labels that a person corrects."""
        return folder / f"{self.name}_labels.tif"

    def predicted_file(self, folder: Path) -> Path:
        """Return the file of the labels that the network predicted."""
        return folder / PREDICTED / f"{self.name}_labels.tif"


@dataclass(frozen=True)
class Review:
    """A folder of pieces to correct, and the volumes and networks that they come from.

    Parameters
    ----------
    folder : Path
    classes : tuple of str
        Class names by label value, background first.
    spacing_um : tuple of float or None
        Voxel edges (z, y, x) that the user gave in place of those of the files.
    volumes : mapping of str to str or None
        Fingerprint of each volume's file, by its path; None if it has none.
    pieces : tuple of Piece
    models : tuple of mapping
        Name and SHA-256 of each network that predicted the labels.
    channels : mapping of str to list of str or int
        The channels that the networks see of each volume, by its path: their names or
        numbers; nothing for a volume of one channel without a name.
    """

    folder: Path
    classes: tuple[str, ...]
    spacing_um: tuple[float, float, float] | None
    volumes: Mapping[str, Any]
    pieces: tuple[Piece, ...]
    models: tuple[Mapping[str, str], ...]
    channels: Mapping[str, Sequence[str | int]] = field(default_factory=dict)

    def save(self) -> None:
        """Write ``review.json``, and ``seen.csv`` with nothing marked."""
        values = {
            "classes": list(self.classes),
            "spacing_um": None if self.spacing_um is None else list(self.spacing_um),
            "volumes": dict(self.volumes),
            "channels": {name: list(each) for name, each in self.channels.items()},
            "models": [dict(model) for model in self.models],
            "pieces": [
                {
                    "name": piece.name,
                    "volume": piece.volume,
                    "axis": piece.axis,
                    "start": list(piece.roi.start),
                    "stop": list(piece.roi.stop),
                    "uncertainty": piece.uncertainty,
                }
                for piece in self.pieces
            ],
        }
        text = json.dumps(values, indent=1) + "\n"
        write_text(self.folder / MARKS, self._marks())
        write_text(self.folder / FACTS, text)

    def mark_seen(self, name: str) -> None:
        """Mark a piece as seen, so that it is trained on even if it was not changed."""
        done = {*self.seen(), name}
        write_text(self.folder / MARKS, self._marks(done))

    def _marks(self, seen: Container[str] = ()) -> str:
        stream = io.StringIO(newline="")
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(COLUMNS)
        for piece in self.pieces:
            files = (piece.labels_file(Path()), piece.image_file(Path()))
            place = (piece.volume, piece.axis, piece.slice_number)
            mark = "yes" if piece.name in seen else ""
            rows.writerow((*files, *place, f"{piece.uncertainty:.4f}", mark))
        return stream.getvalue()

    def seen(self) -> set[str]:
        """Return the names of the pieces that are marked as seen.

        Raises
        ------
        InputError
            If the file of marks is missing, names no such piece, or holds a mark that
            says neither yes nor no.
        """
        path = self.folder / MARKS
        try:
            if not path.is_file():  # a pipe could be read for ever
                raise FileNotFoundError(path)
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            message = (
                f"{path}: cannot be read; expected a CSV file with the columns "
                "'labels' and 'seen', such as the one that `cellseg3d review` wrote"
            )
            raise InputError(message) from error
        lines = text.splitlines()
        separator = ";" if lines and lines[0].count(";") else ","
        names = {piece.labels_file(Path()).name: piece.name for piece in self.pieces}
        found = set()
        for row in csv.DictReader(lines, delimiter=separator):
            file, mark = row.get("labels"), row.get("seen")
            if file not in names or mark is None:
                message = (
                    f"{path}: a row names the labels {file!r} and is marked {mark!r}; "
                    f"expected one of {', '.join(sorted(names)[:3])}, ... and a "
                    "column 'seen'"
                )
                raise InputError(message)
            if mark.strip().lower() in _YES:
                found.add(names[file])
            elif mark.strip().lower() not in _NO:
                message = (
                    f"{path}: {file} is marked {mark!r} in the column 'seen'; write "
                    "yes, or leave it empty"
                )
                raise InputError(message)
        return found


def load_review(folder: Path) -> Review:
    """Return the review that a folder holds.

    Raises
    ------
    ConfigError
        If the folder holds no review.
    """
    path = folder / FACTS
    try:
        values = read_mapping(path)
        check_form(values, _FORM, str(path))
        pieces = tuple(
            Piece(
                each["name"],
                each["volume"],
                each["axis"],
                Roi(zyx(each["start"]), zyx(each["stop"])),
                float(each["uncertainty"]),
            )
            for each in values["pieces"]
        )
        edges: Sequence[float] | None = values["spacing_um"]
        spacing = None if edges is None else (edges[0], edges[1], edges[2])
        return Review(
            folder,
            tuple(values["classes"]),
            spacing,
            values["volumes"],
            pieces,
            tuple(values["models"]),
            values.get("channels", {}),
        )
    except (ConfigError, ValueError, IndexError) as error:
        message = (
            f"{path}: is missing or damaged; give a folder that `cellseg3d review "
            f"VOLUME... --out FOLDER` wrote ({error})"
        )
        raise ConfigError(message) from error

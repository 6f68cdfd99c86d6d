"""What a file must say about the voxels it is to hold, and notes kept as text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import FormatError
from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import IntensityUnit, Volume

NOTES_KEY = "cellseg3d"
# What a reader puts into provenance by itself and no file needs to repeat.
_READERS_OWN = (
    "path",
    "format",
    "inner",
    "level",
    "axes",
    "warnings",
    "told",
    "levels",
    "chunk",
)


@dataclass(frozen=True)
class Request:
    """Which part of a file is meant, where it holds more than one volume.

    Parameters
    ----------
    inner : str or None
        Path of a dataset in HDF5 or of a group in Zarr.
    level : int
        Level of a pyramid; 0 is full size.
    channel : int or None
        Which channel (or colour) of a file that holds several.
    read_as : str or None
        What the user says an axis is, against the file: ``"slices"``, ``"channels"``,
        ``"times"``, or one letter for each axis of the file, such as ``"zyxc"``.
    labels : bool
        Whether ids are wanted, where a file holds an image and its labels.
    """

    inner: str | None = None
    level: int = 0
    channel: int | None = None
    read_as: str | None = None
    labels: bool = False

    def with_channel(self, channel: int | None) -> "Request":
        """Return the same request for another channel."""
        return replace(self, channel=channel)


@dataclass(frozen=True)
class Layout:
    """A volume still to be written.

    Parameters
    ----------
    shape : tuple of int
        Shape (Z, Y, X), in voxels.
    dtype : numpy dtype
        Type of a voxel.
    spacing : Spacing or None
        Voxel edges in um.
    intensity_unit : {"1/um", "arbitrary"}
        Unit of the values.
    affine_mm : ndarray of float64, shape (4, 4), or None
        Kept by NIfTI alone.
    notes : mapping
        JSON values to keep beside the voxels, such as ``{"simulated": True}``.
    chunk : tuple of int or None
        Wanted unit on disk (z, y, x), where the format has one.
    labels : bool
        Whether the values are ids: pyramids then pick, never average.
    ome_zarr : {"0.5", "0.4"}
        Version of OME-Zarr; 0.4 has no shards.
    """

    shape: Zyx
    dtype: np.dtype[Any]
    spacing: Spacing | None = None
    intensity_unit: IntensityUnit = "arbitrary"
    affine_mm: NDArray[np.float64] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    chunk: Zyx | None = None
    labels: bool = False
    ome_zarr: str = "0.5"

    @property
    def nbytes(self) -> int:
        """The voxels' size, uncompressed, in bytes."""
        z, y, x = self.shape
        return z * y * x * self.dtype.itemsize

    @property
    def all_notes(self) -> dict[str, Any]:
        """The notes with the intensity unit and the kind of values among them."""
        kind = {"labels": True} if self.labels else {}
        return {**self.notes, "intensity_unit": self.intensity_unit, **kind}


class Sink(Protocol):
    """An unfinished file that takes regions in any order."""

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Put voxels (z, y, x) where `roi` says, of a dtype that the file's holds."""

    def close(self) -> None:
        """Complete the file."""


def check_unfinished(
    path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Refuse to go on with an unfinished volume that is not what is to be written.

    Raises
    ------
    FormatError
        If what was found, such as shape and dtype, differs from what is wanted.
    """
    if found != wanted:
        raise FormatError(
            f"{path}: unfinished volume of {_listed(found)}; this run writes "
            f"{_listed(wanted)}; remove it or run with the same options"
        )


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def notes_of(volume: Volume) -> dict[str, Any]:
    """Return what a volume's provenance holds that a file should keep."""
    return {
        key: value
        for key, value in volume.provenance.items()
        if key not in _READERS_OWN and _is_json(value)
    }


def pack_notes(notes: Mapping[str, Any]) -> str:
    """Return notes as one line of JSON that `unpack_notes` knows again."""
    return json.dumps({NOTES_KEY: dict(notes)}, sort_keys=True)


def unpack_notes(text: str | None) -> dict[str, Any]:
    """Return the notes that stand in a text, or none; never raises."""
    start = (text or "").find(f'{{"{NOTES_KEY}"')
    if text is None or start < 0:
        return {}
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
    except ValueError:
        return {}
    notes = value.get(NOTES_KEY)
    return notes if isinstance(notes, dict) else {}


def split_unit(notes: Mapping[str, Any]) -> tuple[IntensityUnit, dict[str, Any]]:
    """Return the intensity unit among some notes, and the other notes."""
    rest = {key: value for key, value in notes.items() if key != "intensity_unit"}
    known = notes.get("intensity_unit") == "1/um"
    return ("1/um" if known else "arbitrary"), rest


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True

"""Describe what to read from a file (`Request`) and what to write (`Layout`).

Notes about a volume, such as that it is simulated, are kept in the file as text.
"""

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
# The keys that a reader sets in the provenance; files do not need to keep them.
_READERS_OWN = (
    "path",
    "format",
    "inner",
    "level",
    "axes",
    "channel_names",
    "warnings",
    "told",
    "levels",
    "chunk",
)


@dataclass(frozen=True)
class Request:
    """Which part of a file to read, and how; see `registry.open_volume`.

    Parameters
    ----------
    inner : str or None
        The path of a dataset in HDF5, or of an image or array in Zarr.
    level : int
        The level of an OME-Zarr pyramid; 0 is full size.
    channel : int, str or None
        The channel or colour to read, by its number or name; the time point of a file
        that has no channels.
    time : int or None
        The time point to read.
    every_channel : bool
        Whether to read all channels; the volume then has an axis for them.
    read_as : str or None
        What the axes are by the word of the user: ``"slices"``, ``"channels"`` or
        ``"times"``, or one letter for each axis of the file, such as ``"zyxc"``.
    labels : bool
        Whether to read the labels of a file that holds an image and its labels.
    """

    inner: str | None = None
    level: int = 0
    channel: int | str | None = None
    read_as: str | None = None
    labels: bool = False
    time: int | None = None
    every_channel: bool = False

    def with_channel(self, channel: int | str | None) -> "Request":
        """Return the same request for another channel."""
        return replace(self, channel=channel)


@dataclass(frozen=True)
class Layout:
    """The shape, type and metadata of a volume to be written.

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
        The affine of a NIfTI file; other formats do not keep it.
    notes : mapping
        JSON values to keep beside the voxels, such as ``{"simulated": True}``.
    chunk : tuple of int or None
        Shape (z, y, x) of a shard of Zarr or a chunk of HDF5.
    labels : bool
        Whether the values are labels, which a pyramid must not average.
    ome_zarr : {"0.5", "0.4"}
        The version of OME-Zarr; 0.4 has no shards.
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
        """The size of the uncompressed voxels, in bytes."""
        z, y, x = self.shape
        return z * y * x * self.dtype.itemsize

    @property
    def all_notes(self) -> dict[str, Any]:
        """The notes, with the intensity unit and whether the values are labels."""
        kind = {"labels": True} if self.labels else {}
        return {**self.notes, "intensity_unit": self.intensity_unit, **kind}


class Sink(Protocol):
    """A writer of an unfinished file, which takes regions in any order."""

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Write the voxels (z, y, x) of the region `roi`."""

    def close(self) -> None:
        """Complete the file."""


def check_unfinished(
    path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Raise an error if an unfinished volume is not the one to be written.

    Parameters
    ----------
    path : Path
        The unfinished volume, for messages.
    found, wanted : mapping
        Facts such as shape and dtype, of the unfinished volume and of the one to be
        written.

    Raises
    ------
    FormatError
        If the two differ.
    """
    if found != wanted:
        raise FormatError(
            f"{path}: is an unfinished volume of {_listed(found)}, but this run writes "
            f"{_listed(wanted)}; remove it or run with the same options"
        )


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def unknown_spacing(error: Exception) -> str:
    """Return the warning about a file that states a wrong spacing."""
    cause = str(error).partition(";")[0]
    return f"its spacing is unknown, since {cause}"


def notes_of(volume: Volume) -> dict[str, Any]:
    """Return the part of a volume's provenance that a file should keep."""
    return {
        key: value
        for key, value in volume.provenance.items()
        if key not in _READERS_OWN and _is_json(value)
    }


def pack_notes(notes: Mapping[str, Any]) -> str:
    """Return notes as one line of JSON, which `unpack_notes` reads."""
    return json.dumps({NOTES_KEY: dict(notes)}, sort_keys=True)


def unpack_notes(text: str | None) -> dict[str, Any]:
    """Return the notes in a text; an empty dict if it holds none."""
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
    """Return the intensity unit that is kept in notes, and the other notes."""
    rest = {key: value for key, value in notes.items() if key != "intensity_unit"}
    known = notes.get("intensity_unit") == "1/um"
    return ("1/um" if known else "arbitrary"), rest


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True

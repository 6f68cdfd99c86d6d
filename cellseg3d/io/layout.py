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
# The note of a file whose values are ids of objects, not classes.
OBJECT_IDS = "object_ids"
# What the axes of a file are by the word of the user, if they said so.
READ_AS = "read_as"
# The keys that a reader sets in the provenance; files do not need to keep them.
_READERS_OWN = (
    "path",
    "format",
    "inner",
    "level",
    "axes",
    "channel_names",
    "channel_numbers",
    READ_AS,
    "times",
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
    leading : (str, int) or None
        ``("T", n)`` for a file of n time points, or ``("C", n)`` for one of n channels;
        each of them has the `shape`. They are written as if they were one volume, one
        behind another along z (`stacked`).
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
    leading: tuple[str, int] | None = None

    @property
    def count(self) -> int:
        """The number of time points or channels; 1 if there is one volume."""
        return 1 if self.leading is None else self.leading[1]

    @property
    def axes(self) -> str:
        """The letters of the axes of the file."""
        return "ZYX" if self.leading is None else f"{self.leading[0]}ZYX"

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of `axes`."""
        return self.shape if self.leading is None else (self.count, *self.shape)

    @property
    def stacked(self) -> Zyx:
        """The shape of all time points or channels, one behind another along z."""
        z, y, x = self.shape
        return (self.count * z, y, x)

    def place(self, roi: Roi) -> tuple[slice | int, ...]:
        """Return the index in the file of a region of `stacked`, along `axes`.

        The region must lie in one time point or channel.
        """
        if self.leading is None:
            return roi.slices
        number = roi.start[0] // self.shape[0]
        return (number, *roi.shift((-number * self.shape[0], 0, 0)).slices)

    @property
    def nbytes(self) -> int:
        """The size of the uncompressed voxels, in bytes."""
        z, y, x = self.stacked
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


def refuse_leading(path: Path, layout: Layout, name: str) -> None:
    """Raise an error if a volume of several channels or times goes to a format of one.

    Raises
    ------
    FormatError
        If the layout has several.
    """
    if layout.leading is not None:
        what = "time points" if layout.leading[0] == "T" else "channels"
        raise FormatError(
            f"{path}: {name} holds one volume, not {layout.count} {what}; choose "
            ".ome.tif, .tif, .ome.zarr, .h5 or .nii"
        )


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


def unknown_unit(unit: str, what: str = "voxel edges") -> str:
    """Return the warning about a file whose lengths have no unit, or a strange one."""
    if not unit.strip():
        return f"its {what} have no unit, so its spacing is unknown"
    return (
        f"its {what} are in {unit!r}, which is no unit of length that is known, so its "
        "spacing is unknown"
    )


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

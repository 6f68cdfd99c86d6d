"""Open a dataset of an HDF5 file as a volume, which is read chunk by chunk."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.axes import to_zyx
from cellseg3d.core.errors import FormatError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.volume import Volume
from cellseg3d.io.damage import damaged
from cellseg3d.io.hdf5.datasets import (
    bytes_behind,
    check_extent,
    dataset_in,
    image_and_label,
    missing_chunks,
    wanted,
)
from cellseg3d.io.hdf5.sink import NOTES_ATTRIBUTE, create
from cellseg3d.io.layout import Request, split_unit, unpack_notes
from cellseg3d.io.lazy import Box, LazyArray, lazy_shape
from cellseg3d.io.members import stated_spacing
from cellseg3d.io.picking import (
    assumed_axes,
    channel_names_in,
    chunk_note,
    doubted_axes,
    index_of_box,
    pick_axes,
    times_note,
)

__all__ = ["Hdf5Voxels", "create", "image_and_label", "missing_chunks", "open_file"]


def open_file(path: Path, request: Request) -> Volume:
    """Open a dataset of an HDF5 file without reading its voxels.

    If the request names no dataset, the only one of two or more axes is opened, or the
    one with a usual name such as ``raw`` or ``label``.

    Raises
    ------
    FormatError
        If no such dataset exists, if several do, if the file is damaged, or if the
        voxels lie in another file.
    AxisError
        If the dataset holds several channels or time points and none is chosen.
    """
    try:
        with h5py.File(path, "r") as file:
            name, odd = wanted(path, file, request)
            dataset = dataset_in(path, file, name)
            check_extent(path, dataset)
            odd += bytes_behind(path)
            axes, doubts = _axes(path, dataset)
            odd += doubts if request.read_as is None else []
            unit, notes = split_unit(_notes(dataset))
            names = channel_names_in(notes)
            axes, picked = pick_axes(path, axes, dataset.shape, request, names)
            shape = lazy_shape(axes, dataset.shape, picked)
            spacing, warnings = stated_spacing(dataset.attrs)
            dtype = dataset.dtype.newbyteorder("=")
            chunk = chunk_note(axes, dataset.chunks)
            chunk |= times_note(axes, dataset.shape)
            check_memory(_chunk_bytes(dataset), f"{path}: a chunk")
    except OSError as error:
        raise damaged(path, error, "the HDF5 file") from error
    provenance: dict[str, Any] = {
        "path": str(path),
        "format": "HDF5",
        "inner": name,
        "axes": axes,
        **chunk,
    }
    provenance = {**notes, **provenance}
    if warnings := odd + warnings:
        provenance["warnings"] = warnings
    reader = Hdf5Voxels(path, name, axes, picked)
    return Volume(LazyArray(shape, dtype, reader), spacing, unit, provenance)


@dataclass(frozen=True)
class Hdf5Voxels:
    """A reader of a dataset; it opens the file for each read, so it may be shared.

    Parameters
    ----------
    path : Path
        The file.
    inner : str
        The path of the dataset in it.
    axes : str
        One letter for each axis.
    picked : dict
        The index to read along each axis that is not Z, Y or X.
    """

    path: Path
    inner: str
    axes: str
    picked: dict[str, int]

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in a box of slices (z, y, x) or (c, z, y, x)."""
        key, kept = index_of_box(self.axes, self.picked, box)
        try:
            with h5py.File(self.path, "r") as file:
                return to_zyx(np.asarray(file[self.inner][key]), kept)
        except OSError as error:
            raise damaged(
                self.path, error, f"a chunk of {self.inner} in {box}"
            ) from error


def _axes(path: Path, dataset: Any) -> tuple[str, list[str]]:  # noqa: ANN401
    """Return a letter for each axis, from ilastik's tags or by number, and doubts."""
    tags = dataset.attrs.get("axistags")
    if tags is not None:
        try:
            known = json.loads(plain(tags))["axes"]
            letters = "".join(axis["key"] for axis in known).upper()
        except (ValueError, KeyError, TypeError):
            letters = ""
        if len(letters) == dataset.ndim and {"Y", "X"} <= set(letters):
            return letters, []
    if not 2 <= dataset.ndim <= 5:
        raise FormatError(
            f"{path}: its dataset {dataset.name} has {dataset.ndim} axes; expected 3 "
            "(z, y, x)"
        )
    return assumed_axes(dataset.ndim), doubted_axes(dataset.shape)


def _chunk_bytes(dataset: Any) -> int:  # noqa: ANN401
    return math.prod(dataset.chunks or (0,)) * int(dataset.dtype.itemsize)


def plain(value: Any) -> str:  # noqa: ANN401
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _notes(dataset: Any) -> dict[str, Any]:  # noqa: ANN401
    attributes = dataset.attrs
    notes = unpack_notes(plain(attributes.get(NOTES_ATTRIBUTE, "")))
    if "intensity_unit" in attributes:
        notes.setdefault("intensity_unit", plain(attributes["intensity_unit"]))
    if bool(attributes.get("simulated", False)):
        notes["simulated"] = True
    return notes

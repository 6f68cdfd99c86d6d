"""Read and write volumes in HDF5 files, chunk by chunk."""

import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.axes import to_zyx
from cellseg3d.core.errors import FormatError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.volume import Volume
from cellseg3d.io.damage import damaged, reading
from cellseg3d.io.layout import (
    Layout,
    Request,
    Sink,
    pack_notes,
    split_unit,
    unpack_notes,
)
from cellseg3d.io.lazy import Box, LazyArray, lazy_shape
from cellseg3d.io.members import SPACING_KEY, choose, pair_in, stated_spacing
from cellseg3d.io.picking import (
    assumed_axes,
    channel_names_in,
    chunk_note,
    doubted_axes,
    index_of_box,
    pick_axes,
    times_note,
)

NOTES_ATTRIBUTE = "cellseg3d"
DEFAULT_CHUNK = (32, 64, 64)
_MAX_FIXED = 60_000
# The header of a file, and where it states the file's length, by its version.
_SIGNATURE, _HEAD = b"\x89HDF\r\n\x1a\n", 64
_END_OF_FILE = {0: 40, 1: 44, 2: 28, 3: 28}
INNER = {False: "raw", True: "label"}


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
            name, odd = _wanted(path, file, request)
            dataset = _dataset(path, file, name)
            _check_extent(path, dataset)
            odd += _bytes_behind(path)
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


def create(path: Path, layout: Layout) -> Sink:
    """Make an HDF5 file and return the writer of its voxels.

    The file holds one chunked and compressed dataset, ``raw`` or, for labels,
    ``label``.
    """
    name = INNER[layout.labels]
    chunk = zyx(
        [
            min(a, b)
            for a, b in zip(layout.chunk or DEFAULT_CHUNK, layout.shape, strict=True)
        ]
    )
    dtype = np.dtype("u1") if layout.dtype.kind == "b" else layout.dtype
    with _written(path, "w") as file:
        dataset = file.create_dataset(
            name,
            layout.lengths,
            dtype,
            chunks=(*(1,) * (len(layout.axes) - 3), *chunk),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        if layout.leading is not None:
            tags = {"axes": [{"key": letter.lower()} for letter in layout.axes]}
            dataset.attrs["axistags"] = _text(json.dumps(tags))
        if layout.spacing is not None:
            dataset.attrs[SPACING_KEY] = layout.spacing.zyx
        dataset.attrs[NOTES_ATTRIBUTE] = _text(pack_notes(layout.all_notes))
        dataset.attrs["intensity_unit"] = _text(layout.intensity_unit)
        if layout.notes.get("simulated"):
            dataset.attrs["simulated"] = True
    return Hdf5Sink(path, name, layout)


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


@dataclass(frozen=True)
class Hdf5Sink:
    """A writer of the only dataset of a new file; only one process may use it."""

    path: Path
    inner: str
    layout: Layout

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Write the voxels (z, y, x) of the region `roi` and read them back.

        Raises
        ------
        OSError
            If they cannot be written, or if other voxels are read back.
        """
        with _written(self.path, "r+") as file:
            file[self.inner][self.layout.place(roi)] = array
        with h5py.File(self.path, "r") as file:
            found = file[self.inner][self.layout.place(roi)]
        if found.tobytes() != array.astype(found.dtype, copy=False).tobytes():
            raise OSError(errno.EIO, "the voxels read back are not those written")

    def close(self) -> None:
        """Do nothing, since the file is closed after each region."""


@contextmanager
def _written(path: Path, mode: str) -> Iterator[h5py.File]:
    """Open a file to write; an error while writing is raised when it is closed.

    Raises
    ------
    OSError
        The first error of a write, a flush or the closing.
    """
    with path.open("w+b" if mode == "w" else "r+b") as raw:
        kept = _KeepsErrors(raw)
        try:
            with h5py.File(kept, mode) as file:
                yield file
        except Exception:
            if kept.error is None:
                raise
        if kept.error is not None:
            raise kept.error
        raw.flush()
        os.fsync(raw.fileno())


class _KeepsErrors:
    """A file whose writes never fail; it keeps the first error in `error` instead.

    The HDF5 library ends the whole process if a write fails while it closes the file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def seek(self, place: int, whence: int = 0) -> int:
        """Move to a place in the file."""
        return self.file.seek(place, whence)

    def tell(self) -> int:
        """Return the current place in the file."""
        return self.file.tell()

    def read(self, count: int = -1) -> bytes:
        """Read bytes."""
        return self.file.read(count)

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        """Read into a buffer."""
        return int(self.file.readinto(buffer))  # type: ignore[attr-defined]

    def write(self, data: Any) -> int:  # noqa: ANN401
        """Write bytes, or keep the error."""
        try:
            if self.error is None:
                self.file.write(data)
                self.file.flush()
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int) -> int:
        """Set the length of the file, or keep the error."""
        try:
            self.file.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size

    def flush(self) -> None:
        """Do nothing, since every write is flushed."""


def _wanted(path: Path, file: Any, request: Request) -> tuple[str, list[str]]:  # noqa: ANN401
    """Return the name of the dataset to read, and a sentence about any others."""
    if request.inner:
        return request.inner, []
    found = candidates(file)
    if not found:
        outside = _links_outside(file)
        if outside:
            raise FormatError(f"{path}: {outside[0]}; copy the data into this file")
        raise FormatError(
            f"{path}: holds no dataset of numbers with two or more axes; write the "
            "volume into it as a dataset (z, y, x)"
        )
    return choose(path, found, labels=request.labels)


def image_and_label(path: Path) -> tuple[str, str] | None:
    """Return the datasets of an image and its labels in a file; None without both.

    Raises
    ------
    FormatError
        If the file is damaged.
    EnvironmentFault
        If another program holds it.
    """
    with reading(path), h5py.File(path, "r") as file:
        return pair_in(candidates(file))


def candidates(file: Any) -> list[str]:  # noqa: ANN401
    """Return the names of the datasets of an open file that may be volumes.

    They hold numbers and have two axes or more. If any has three or more, those with
    two, such as lists of points, are left out.
    """
    found: dict[str, int] = {}

    def collect(name: str, item: Any) -> None:  # noqa: ANN401
        # A dataset of one axis is not an image; it may be a spacing.
        if (
            isinstance(item, h5py.Dataset)
            and item.ndim >= 2
            and item.dtype.kind in "biuf"
        ):
            found[name] = item.ndim

    file.visititems(collect)
    solid = [name for name, axes in found.items() if axes >= 3]
    return solid or list(found)


def _links_outside(group: Any) -> list[str]:  # noqa: ANN401
    found = []
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            found.append(
                f"its dataset {name} is a link into another file ({link.filename})"
            )
    return found


def _dataset(path: Path, file: Any, name: str) -> Any:  # noqa: ANN401
    """Return a dataset after a check that its voxels lie in this file."""
    group = file
    for part in [each for each in name.split("/") if each]:
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise FormatError(
                f"{path}: its dataset {name} is a link into another file "
                f"({link.filename}); copy the data into this file"
            )
        try:
            group = group[part]
        except (KeyError, TypeError) as error:
            there = ", ".join(candidates(file)[:8]) or "none with two or more axes"
            raise FormatError(
                f"{path}: holds no dataset {name!r}; its datasets are: {there}"
            ) from error
    if not isinstance(group, h5py.Dataset):
        inside = ", ".join(f"{name}/{each}" for each in list(group)[:8])
        raise FormatError(
            f"{path}: {name!r} is a group, not a dataset; name one of {inside}"
        )
    if group.external or group.is_virtual or group.file.filename != file.filename:
        raise FormatError(
            f"{path}: the voxels of its dataset {name} lie in another file; copy them "
            "into this one"
        )
    if group.dtype.kind not in "biuf":
        raise FormatError(
            f"{path}: its dataset {name} holds {group.dtype}; expected integers or "
            "floats"
        )
    return group


def _check_extent(path: Path, dataset: Any) -> None:  # noqa: ANN401
    """Raise an error if a dataset without chunks has other bytes than its shape needs.

    Raises
    ------
    FormatError
        With both sizes.
    """
    stored, needed = int(dataset.id.get_storage_size()), int(dataset.nbytes)
    if dataset.chunks is None and stored not in (0, needed):
        raise FormatError(
            f"{path}: its dataset {dataset.name} holds {stored} bytes, but its shape "
            f"{dataset.shape} of {dataset.dtype} needs {needed}; copy it again"
        )


def _bytes_behind(path: Path) -> list[str]:
    """Return a sentence if a file is longer than its header states."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if len(head) < _HEAD or not head.startswith(_SIGNATURE):
        return []  # a block of the user's own lies before the header
    place = _END_OF_FILE.get(head[8])
    # The sizes of numbers lie in other bytes in the first versions.
    if place is None or head[13 if head[8] < 2 else 9] != 8:
        return []
    behind = path.stat().st_size - int.from_bytes(head[place : place + 8], "little")
    return [f"{behind} unknown bytes follow the data"] if behind > 0 else []


def _axes(path: Path, dataset: Any) -> tuple[str, list[str]]:  # noqa: ANN401
    """Return a letter for each axis, from ilastik's tags or by number, and doubts."""
    tags = dataset.attrs.get("axistags")
    if tags is not None:
        try:
            known = json.loads(_plain(tags))["axes"]
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


def _text(text: str) -> Any:  # noqa: ANN401
    """Return a text as an HDF5 attribute of fixed length, unless it is over 60 kB.

    HDF5 keeps attributes of variable length in a heap, and its library can loop for
    ever if a byte of the heap is damaged. But longer attributes fit only there.
    """
    data = text.encode()
    return np.bytes_(data) if 0 < len(data) < _MAX_FIXED else text


def _plain(value: Any) -> str:  # noqa: ANN401
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _notes(dataset: Any) -> dict[str, Any]:  # noqa: ANN401
    attributes = dataset.attrs
    notes = unpack_notes(_plain(attributes.get(NOTES_ATTRIBUTE, "")))
    if "intensity_unit" in attributes:
        notes.setdefault("intensity_unit", _plain(attributes["intensity_unit"]))
    if bool(attributes.get("simulated", False)):
        notes["simulated"] = True
    return notes


def missing_chunks(path: Path, inner: str) -> tuple[int, int, float, int]:
    """Return how many chunks of a dataset are missing, of how many, and their fill.

    The last number says how many lie outside of the shape that the header states.

    A missing chunk reads as the fill value, which is mostly 0. Some programs leave out
    chunks of that value, but a program that was killed leaves out others as well.
    """
    with h5py.File(path, "r") as file:
        dataset = file[inner]
        if dataset.chunks is None:
            return 0, 0, 0, 0
        counts = [
            -(-length // side)
            for length, side in zip(dataset.shape, dataset.chunks, strict=True)
        ]
        places = _chunk_places(dataset)
        there = {
            place
            for place in places
            if all(0 <= a < b for a, b in zip(place, counts, strict=True))
        }
        whole, outside = math.prod(counts), len(set(places) - there)
        return whole - len(there), whole, dataset.fillvalue.item(), outside


def _chunk_places(dataset: Any) -> list[tuple[int, ...]]:  # noqa: ANN401
    """Return the index of each chunk of a dataset along its axes.

    A damaged file may hold chunks at places that no voxel has, or not on the grid.
    """
    found: list[tuple[int, ...]] = []

    def take(chunk: Any) -> None:  # noqa: ANN401
        pairs = list(zip(chunk.chunk_offset, dataset.chunks, strict=True))
        if all(offset % side == 0 for offset, side in pairs):
            found.append(tuple(offset // side for offset, side in pairs))

    dataset.id.chunk_iter(take)
    return found

"""HDF5: one dataset of a file, chunk by chunk, spacing from its attributes."""

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
from cellseg3d.core.errors import FormatError, SpacingError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.spacing import Spacing
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
from cellseg3d.io.lazy import Box, LazyArray
from cellseg3d.io.picking import chunk_note, pick_axes

SPACING_KEY = "element_size_um"
NOTES_ATTRIBUTE = "cellseg3d"
DEFAULT_CHUNK = (32, 64, 64)
_MAX_FIXED = 60_000
INNER = {False: "raw", True: "label"}
# What programs call the image and its labels in one file.
IMAGE_NAMES = ("raw", "image", "volume", "data", "exported_data")
LABEL_NAMES = ("label", "labels", "mask", "masks", "segmentation", "gt")


def open_file(path: Path, request: Request) -> Volume:
    """Open a dataset of an HDF5 file lazily.

    Without an inner path the file's only dataset of two or more axes is meant.

    Raises
    ------
    FormatError
        If there is no such dataset or several, if the file is cut, or if the data lie
        in another file.
    AxisError
        If there are several channels or time points and none is picked.
    """
    try:
        with h5py.File(path, "r") as file:
            name, odd = _wanted(path, file, request)
            dataset = _dataset(path, file, name)
            axes = _axes(path, dataset)
            axes, picked = pick_axes(path, axes, dataset.shape, request)
            lengths = dict(zip(axes, dataset.shape, strict=True))
            shape = zyx([lengths.get(letter, 1) for letter in "ZYX"])
            spacing, warnings = _spacing(dataset)
            unit, notes = split_unit(_notes(dataset))
            dtype = dataset.dtype.newbyteorder("=")
            chunk = chunk_note(axes, dataset.chunks)
            check_memory(_chunk_bytes(dataset), f"{path}: a chunk")
    except OSError as error:
        raise damaged(path, error, "an incomplete or damaged HDF5 file") from error
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
    """Write an HDF5 file with one chunked, packed dataset, ``raw`` or ``label``."""
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
            layout.shape,
            dtype,
            chunks=chunk,
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        if layout.spacing is not None:
            dataset.attrs[SPACING_KEY] = layout.spacing.zyx
        dataset.attrs[NOTES_ATTRIBUTE] = _text(pack_notes(layout.all_notes))
        dataset.attrs["intensity_unit"] = _text(layout.intensity_unit)
        if layout.notes.get("simulated"):
            dataset.attrs["simulated"] = True
    return Hdf5Sink(path, name)


@dataclass(frozen=True)
class Hdf5Voxels:
    """Voxels of a dataset; the file is opened for each read, so it may be shared.

    Parameters
    ----------
    path : Path
        The file.
    inner : str
        Path of the dataset in it.
    axes : str
        One letter an axis.
    picked : dict
        Index taken along each axis that is none of Z, Y and X.
    """

    path: Path
    inner: str
    axes: str
    picked: dict[str, int]

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in `box`, three slices (z, y, x)."""
        place = dict(zip("ZYX", box, strict=True))
        key = tuple(
            self.picked[each] if each in self.picked else place[each]
            for each in self.axes
        )
        kept = "".join(each for each in self.axes if each not in self.picked)
        try:
            with h5py.File(self.path, "r") as file:
                return to_zyx(np.asarray(file[self.inner][key]), kept)
        except OSError as error:
            raise damaged(
                self.path, error, f"a chunk of {self.inner} in {box}"
            ) from error


@dataclass(frozen=True)
class Hdf5Sink:
    """Takes regions of the one dataset of a new file, from one process."""

    path: Path
    inner: str

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Put voxels (z, y, x) where `roi` says, and read them back.

        Raises
        ------
        OSError
            If the system refuses a part, or gives back other voxels.
        """
        with _written(self.path, "r+") as file:
            file[self.inner][roi.slices] = array
        with h5py.File(self.path, "r") as file:
            found = file[self.inner][roi.slices]
        if found.tobytes() != array.astype(found.dtype, copy=False).tobytes():
            raise OSError(errno.EIO, "other voxels are read back than were written")

    def close(self) -> None:
        """Nothing is left to do: the file is closed after each region."""


@contextmanager
def _written(path: Path, mode: str) -> Iterator[h5py.File]:
    """Open a file to write; what the system refuses is raised when it is closed.

    Raises
    ------
    OSError
        The first one that a write, a flush or the closing met.
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
    """A file for the HDF5 library, which ends the process when a write fails late.

    The library believes that every write succeeds; who opened the file asks `error`.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place."""
        return self.file.seek(place, whence)

    def tell(self) -> int:
        """Return the place."""
        return self.file.tell()

    def read(self, count: int = -1) -> bytes:
        """Read bytes."""
        return self.file.read(count)

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        """Read into a buffer."""
        return int(self.file.readinto(buffer))  # type: ignore[attr-defined]

    def write(self, data: Any) -> int:  # noqa: ANN401
        """Write, or keep the error."""
        try:
            if self.error is None:
                self.file.write(data)
                self.file.flush()
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int) -> int:
        """Set the length, or keep the error."""
        try:
            self.file.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size

    def flush(self) -> None:
        """Do nothing: every write is flushed."""


def _wanted(path: Path, file: Any, request: Request) -> tuple[str, list[str]]:  # noqa: ANN401
    """Return the dataset that is meant, and a sentence where others were left alone."""
    if request.inner:
        return request.inner, []
    found = candidates(file)
    if not found:
        outside = _links_outside(file)
        if outside:
            raise FormatError(f"{path}: {outside[0]}; copy the data into this file")
        raise FormatError(
            f"{path}: holds no dataset of two or more axes of numbers; write the "
            "volume into it as one"
        )
    if len(found) == 1:
        return found[0], []
    names = LABEL_NAMES if request.labels else IMAGE_NAMES
    named = [each for each in found if each.rpartition("/")[2].lower() in names]
    if len(named) == 1:
        rest = ", ".join(each for each in found if each != named[0])
        return named[0], [f"{named[0]} is read; {path.name} holds {rest} as well"]
    raise FormatError(
        f"{path}: holds {len(found)} datasets ({', '.join(found[:8])}); name one as "
        f"{path.name}::{(named or found)[0]}"
    )


def datasets_of(path: Path) -> list[str]:
    """Return the datasets of a file that may be volumes, by name.

    Raises
    ------
    FormatError
        If it is damaged.
    EnvironmentFault
        If another program holds it.
    """
    with reading(path), h5py.File(path, "r") as file:
        return candidates(file)


def candidates(file: Any) -> list[str]:  # noqa: ANN401
    """Return the datasets of an open file that may be volumes.

    Tables are none; nor is a matrix, such as a list of points, beside a dataset of
    three axes or more.
    """
    found: dict[str, int] = {}

    def collect(name: str, item: Any) -> None:  # noqa: ANN401
        # Three numbers are a spacing, not an image.
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
            found.append(f"{name} is a link into another file ({link.filename})")
    return found


def _dataset(path: Path, file: Any, name: str) -> Any:  # noqa: ANN401
    """Return a dataset whose voxels all lie in this very file."""
    group = file
    for part in [each for each in name.split("/") if each]:
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise FormatError(
                f"{path}: {name} is a link into another file ({link.filename}); copy "
                "the data into this file"
            )
        try:
            group = group[part]
        except (KeyError, TypeError) as error:
            there = ", ".join(candidates(file)[:8]) or "none of two or more axes"
            raise FormatError(
                f"{path}: holds no dataset {name!r}; its datasets: {there}"
            ) from error
    if not isinstance(group, h5py.Dataset):
        inside = ", ".join(f"{name}/{each}" for each in list(group)[:8])
        raise FormatError(f"{path}: {name!r} is a group; name a dataset ({inside})")
    if group.external or group.is_virtual or group.file.filename != file.filename:
        raise FormatError(
            f"{path}: the voxels of {name} lie in another file; copy them into this one"
        )
    if group.dtype.kind not in "biuf":
        raise FormatError(
            f"{path}: {name} holds {group.dtype}; expected integers or floats"
        )
    return group


def _axes(path: Path, dataset: Any) -> str:  # noqa: ANN401
    """Return one letter an axis: from ilastik's tags, or by the number of axes."""
    tags = dataset.attrs.get("axistags")
    if tags is not None:
        try:
            letters = "".join(axis["key"] for axis in json.loads(tags)["axes"]).upper()
        except (ValueError, KeyError, TypeError):
            letters = ""
        if len(letters) == dataset.ndim and {"Y", "X"} <= set(letters):
            return letters
    if not 2 <= dataset.ndim <= 5:
        raise FormatError(
            f"{path}: {dataset.name} has {dataset.ndim} axes; expected 3 (z, y, x)"
        )
    return "TCZYX"[-dataset.ndim :]


def _spacing(dataset: Any) -> tuple[Spacing | None, list[str]]:  # noqa: ANN401
    if SPACING_KEY not in dataset.attrs:
        return None, []
    lengths = np.ravel(dataset.attrs[SPACING_KEY]).tolist()
    try:
        return Spacing.of(lengths), []
    except (SpacingError, TypeError, ValueError) as error:
        return None, [f"{SPACING_KEY} is {lengths} ({error}): spacing unknown"]


def _chunk_bytes(dataset: Any) -> int:  # noqa: ANN401
    return math.prod(dataset.chunks or (0,)) * int(dataset.dtype.itemsize)


def _text(text: str) -> Any:  # noqa: ANN401
    """Return a text of fixed length, as HDF5 keeps it beside the dataset.

    Texts of any length lie on a heap of the file, and the library can loop for ever
    where a byte of that heap is damaged. Attributes over 64 KiB fit only there.
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


def missing_chunks(path: Path, inner: str) -> tuple[int, int]:
    """Return how many chunks of a dataset are absent, and how many belong to it.

    An absent chunk reads as zeros: some writers mean that, a killed one does not.
    """
    with h5py.File(path, "r") as file:
        dataset = file[inner]
        if dataset.chunks is None:
            return 0, 0
        whole = math.prod(
            -(-length // side)
            for length, side in zip(dataset.shape, dataset.chunks, strict=True)
        )
        return whole - int(dataset.id.get_num_chunks()), whole

"""Write volumes into HDF5 files, so that no error of the disk is lost."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.roi import Roi, zyx
from cellseg3d.io.layout import Layout, Sink, pack_notes
from cellseg3d.io.members import SPACING_KEY

NOTES_ATTRIBUTE = "cellseg3d"
DEFAULT_CHUNK = (32, 64, 64)
INNER = {False: "raw", True: "label"}
_MAX_FIXED = 60_000


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


def _text(text: str) -> Any:  # noqa: ANN401
    """Return a text as an HDF5 attribute of fixed length, unless it is over 60 kB.

    HDF5 keeps attributes of variable length in a heap, and its library can loop for
    ever if a byte of the heap is damaged. But longer attributes fit only there.
    """
    data = text.encode()
    return np.bytes_(data) if 0 < len(data) < _MAX_FIXED else text

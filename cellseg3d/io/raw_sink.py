"""Write regions of a file whose voxels lie one after another, X fastest."""

import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.io.lazy import LazyArray, RawVoxels


class RawSink:
    """Room for voxels behind a header, filled region by region.

    The room is reserved as a hole; several processes may write separate regions.

    Parameters
    ----------
    path : Path
        A file that holds its header already.
    offset : int
        Where the first voxel goes, in bytes.
    dtype : numpy dtype
        Type and byte order in the file.
    shape : tuple of int
        Shape (Z, Y, X), in voxels.
    """

    def __init__(
        self, path: Path, offset: int, dtype: np.dtype[Any], shape: Zyx
    ) -> None:
        self.path, self.offset, self.dtype, self.shape = path, offset, dtype, shape
        end = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if path.stat().st_size < end:
            os.truncate(path, end)

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Put voxels (z, y, x) where `roi` says.

        Raises
        ------
        OSError
            If the disk is full; a mapped file would end the process instead.
        """
        first_z, first_y, first_x = roi.start
        with self.path.open("r+b", buffering=0) as file:
            for z, plane in enumerate(array, first_z):
                # Cast plane by plane: a copy of the whole region would double it.
                rows = np.ascontiguousarray(plane, self.dtype)
                if rows.shape[1] == self.shape[2]:
                    rows = rows.reshape(1, -1)  # rows lie one after another
                for y, row in enumerate(rows, first_y):
                    _write_all(file, row, self._byte((z, y, first_x)))

    def array(self) -> LazyArray:
        """Return what was written so far, lazily; zero where nothing was."""
        return RawVoxels(self.path, self.offset, self.dtype, self.shape).lazy()

    def _byte(self, place: Sequence[int]) -> int:
        """Return where a voxel lies in the file."""
        z, y, x = place
        index = (z * self.shape[1] + y) * self.shape[2] + x
        return self.offset + index * self.dtype.itemsize

    def close(self) -> None:
        """Nothing is left to do: every region lies in the file."""


def _write_all(file: FileIO, run: NDArray[Any], place: int) -> None:
    left = memoryview(run.view(np.uint8).data)
    file.seek(place)
    while left:
        left = left[file.write(left) :]

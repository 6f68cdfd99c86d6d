"""Write regions of a file of uncompressed voxels, in which X is the fastest axis."""

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
    """A writer of the voxels behind a header, region by region.

    The file gets its full length at once. Several processes may write separate regions.

    Parameters
    ----------
    path : Path
        A file that already holds its header.
    offset : int
        Where the first voxel begins, in bytes.
    dtype : numpy dtype
        Type and byte order in the file.
    shape : tuple of int
        Shape (Z, Y, X), in voxels.
    woven : int
        The number of channels whose slices lie in turn in the file, while they are
        written one channel behind another (`Layout.stacked`).
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        dtype: np.dtype[Any],
        shape: Zyx,
        woven: int = 1,
    ) -> None:
        self.path, self.offset, self.dtype, self.shape = path, offset, dtype, shape
        self.woven = woven
        end = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if path.stat().st_size < end:
            os.truncate(path, end)

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Write the voxels (z, y, x) of the region `roi`.

        Raises
        ------
        OSError
            If the disk is full.
        """
        first_z, first_y, first_x = roi.start
        with self.path.open("r+b", buffering=0) as file:
            for z, plane in enumerate(array, first_z):
                # The cast is plane by plane: that of a region would double the memory.
                rows = np.ascontiguousarray(plane, self.dtype)
                if rows.shape[1] == self.shape[2]:
                    rows = rows.reshape(1, -1)  # whole rows lie one after another
                for y, row in enumerate(rows, first_y):
                    _write_all(file, row, self._byte((z, y, first_x)))

    def array(self) -> LazyArray:
        """Return the voxels written so far as a lazy array; the others are 0."""
        return RawVoxels(self.path, self.offset, self.dtype, self.shape).lazy()

    def _byte(self, place: Sequence[int]) -> int:
        """Return the place of a voxel in the file, in bytes."""
        z, y, x = place
        channel, inside = divmod(z, self.shape[0] // self.woven)
        z = inside * self.woven + channel
        index = (z * self.shape[1] + y) * self.shape[2] + x
        return self.offset + index * self.dtype.itemsize

    def close(self) -> None:
        """Do nothing, since `write` has put every region into the file."""


def _write_all(file: FileIO, run: NDArray[Any], place: int) -> None:
    left = memoryview(run.view(np.uint8).data)
    file.seek(place)
    while left:
        left = left[file.write(left) :]

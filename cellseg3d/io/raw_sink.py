"""Write regions of a file whose voxels lie one after another, X fastest."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.roi import Roi, Zyx


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
        voxels = np.ascontiguousarray(array, self.dtype)
        whole = [a == b for a, b in zip(roi.shape, self.shape, strict=True)]
        # As many voxels at a time as lie one after another in the file.
        if whole[1] and whole[2]:
            runs = voxels.reshape(1, 1, -1)
        elif whole[2]:
            runs = voxels.reshape(len(voxels), 1, -1)
        else:
            runs = voxels
        handle = os.open(self.path, os.O_WRONLY)
        try:
            for z, y in np.ndindex(runs.shape[:2]):
                place = (roi.start[0] + z, roi.start[1] + y, roi.start[2])
                _write_all(handle, runs[z, y], self._byte(place))
        finally:
            os.close(handle)

    def _byte(self, place: Sequence[int]) -> int:
        """Return where a voxel lies in the file."""
        z, y, x = place
        index = (z * self.shape[1] + y) * self.shape[2] + x
        return self.offset + index * self.dtype.itemsize

    def close(self) -> None:
        """Nothing is left to do: every region lies in the file."""


def _write_all(handle: int, run: NDArray[Any], place: int) -> None:
    left = memoryview(run.view(np.uint8).data)
    while left:
        written = os.pwrite(handle, left, place)
        left, place = left[written:], place + written

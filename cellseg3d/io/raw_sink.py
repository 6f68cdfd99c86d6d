"""Write regions of a file whose voxels lie one after another, X fastest."""

import os
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
        """Put voxels (z, y, x) where `roi` says."""
        mapped = np.memmap(self.path, self.dtype, "r+", self.offset, self.shape)
        mapped[roi.slices] = array

    def close(self) -> None:
        """Nothing is left to do: every region lies in the file."""

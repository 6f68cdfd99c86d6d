"""An array that reads from its file only the voxels that are asked for."""

import errno
import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.axes import to_zyx
from cellseg3d.core.roi import Zyx, zyx

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class LazyArray:
    """A volume's voxels (z, y, x) on disk; indexing reads that region alone.

    It keeps no open file and can be sent to another process.

    Parameters
    ----------
    shape : tuple of int
        Shape (Z, Y, X), in voxels.
    dtype : numpy dtype
        Type of a voxel as handed out, in the byte order of this machine.
    read : callable
        Given three slices with start, stop and a step > 0, returns those voxels.
    """

    shape: Zyx
    dtype: np.dtype[Any]
    read: Callable[[Box], NDArray[Any]]

    @property
    def ndim(self) -> int:
        """Three."""
        return 3

    @property
    def size(self) -> int:
        """The number of voxels."""
        z, y, x = self.shape
        return z * y * x

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: ANN401 - as numpy's
        """Return the voxels of a region as a numpy array of this machine."""
        box, after = _boxed(key, self.shape)
        found = np.asarray(self.read(box)).astype(self.dtype, copy=False)
        return found[after]  # type: ignore[no-any-return]

    def __array__(
        self,
        dtype: np.dtype[Any] | None = None,
        copy: bool | None = None,  # noqa: FBT001 - numpy's own signature
    ) -> NDArray[Any]:
        """Return every voxel in memory."""
        del copy
        return self[:].astype(dtype or self.dtype, copy=False)


def _boxed(key: Any, shape: Zyx) -> tuple[Box, tuple[Any, ...]]:  # noqa: ANN401
    """Return the box to read and what is left to do to it in memory."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        keys[place : place + 1] = [slice(None)] * (4 - len(keys))
    keys += [slice(None)] * (3 - len(keys))
    if len(keys) != 3:
        message = f"a volume has three axes (z, y, x); found {len(keys)} indices"
        raise IndexError(message)
    pairs = [_one(each, size) for each, size in zip(keys, shape, strict=True)]
    z, y, x = (box for box, _ in pairs)
    return (z, y, x), tuple(after for _, after in pairs)


def _one(key: Any, size: int) -> tuple[slice, Any]:  # noqa: ANN401
    if isinstance(key, slice):
        start, stop, step = key.indices(size)
        if step > 0:
            return slice(start, max(start, stop), step), slice(None)
        picked = range(start, stop, step)
        if not picked:
            return slice(0, 0, 1), slice(None)
        return slice(picked[-1], picked[0] + 1, -step), slice(None, None, -1)
    index = operator.index(key)
    if not -size <= index < size:
        message = f"index {index} lies outside an axis of {size} voxels"
        raise IndexError(message)
    index %= size
    return slice(index, index + 1, 1), 0


@dataclass(frozen=True)
class RawVoxels:
    """Voxels that lie one after another in a file, in any axis order.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        Where the first voxel begins, in bytes.
    dtype : numpy dtype
        Type and byte order in the file.
    shape : tuple of int
        Lengths of the axes as they lie in the file, slowest first.
    axes : str
        Letters of those axes, such as ``"ZYX"``; others than Z, Y and X are picked.
    picked : mapping
        Index taken along each axis that is none of Z, Y and X.
    """

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: Sequence[int]
    axes: str = "ZYX"
    picked: Mapping[str, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The file size at which the last voxel is complete, in bytes."""
        return self.offset + math.prod(map(int, self.shape)) * self.dtype.itemsize

    def lazy(self) -> LazyArray:
        """Return the voxels as a lazy array in (z, y, x)."""
        lengths = dict(zip(self.axes, self.shape, strict=True))
        shape = zyx([lengths.get(letter, 1) for letter in "ZYX"])
        return LazyArray(shape, self.dtype.newbyteorder("="), self)

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return a copy of the voxels in `box`, three slices (z, y, x).

        Rows are read, not mapped: a mapped file stays in memory as long as the
        region is copied, and ends the process when it becomes shorter.

        Raises
        ------
        OSError
            If the file has gone, or ends before the last voxel of the box.
        """
        wanted = dict(zip("ZYX", box, strict=True))
        key = [
            slice(self.picked[letter], self.picked[letter] + 1)
            if letter in self.picked
            else wanted[letter]
            for letter in self.axes
        ]
        # Two axes at least, the last two in one go.
        lengths = [1] * (2 - len(key)) + [int(side) for side in self.shape]
        key = [slice(0, 1)] * (2 - len(key)) + key
        found = self._rows(key, lengths)
        kept = "".join(each for each in self.axes if each not in self.picked)
        volume = to_zyx(found.reshape([_count(wanted[each]) for each in kept]), kept)
        z, y, x = (_count(wanted[each]) for each in "ZYX")
        # An axis that the file lacks is one voxel long; the box may hold none of it.
        return volume[:z, :y, :x]

    def _rows(self, key: Sequence[slice], lengths: Sequence[int]) -> NDArray[Any]:
        """Return a box of the file's own axes, read plane by plane."""
        *outer, rows, columns = key
        found = np.empty([_count(part) for part in key], self.dtype)
        if not found.size:
            return found
        outside = [
            range(*part.indices(n)) for part, n in zip(outer, lengths[:-2], strict=True)
        ]
        last = range(*rows.indices(lengths[-2]))[-1]
        plane = np.empty((last + 1 - rows.start, lengths[-1]), self.dtype)
        with self.path.open("rb", buffering=0) as file:
            for place, index in zip(
                np.ndindex(*found.shape[:-2]), itertools.product(*outside), strict=True
            ):
                at = 0
                for number, length in zip(
                    (*index, rows.start, 0), lengths, strict=True
                ):
                    at = at * length + number
                file.seek(self.offset + at * self.dtype.itemsize)
                _fill(file, plane)
                found[place] = plane[:: rows.step, columns]
        return found


def _count(part: slice) -> int:
    """Return how many indices a slice with start, stop and step > 0 has."""
    return len(range(part.start, part.stop, part.step or 1))


def _fill(file: FileIO, array: NDArray[Any]) -> None:
    """Read an array from where a file stands."""
    left = memoryview(array.view(np.uint8).data).cast("B")
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError(errno.EIO, "the file has become shorter", file.name)
        left = left[count:]

"""Arrays that read only the voxels that are asked for from their file."""

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

# Slices along (z, y, x), or along (c, z, y, x).
Box = tuple[slice, ...]


@dataclass(frozen=True)
class LazyArray:
    """The voxels of a volume on disk; indexing reads only that region.

    The array keeps no file open and can be sent to another process.

    Parameters
    ----------
    shape : tuple of int
        Shape (Z, Y, X), in voxels, or (C, Z, Y, X) if there are several channels.
    dtype : numpy dtype
        Type of a voxel in memory, in the byte order of this machine.
    read : callable
        A function of a slice for each axis, with start, stop and a step > 0, that
        returns those voxels.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Box], NDArray[Any]]

    @property
    def ndim(self) -> int:
        """The number of axes, 3 or 4."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of voxels of all channels."""
        return math.prod(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: ANN401 - as numpy's
        """Return the voxels of a region as a numpy array."""
        box, after = _boxed(key, self.shape)
        pairs = zip(box, self.shape, strict=True)
        sides = [len(range(*part.indices(length))) for part, length in pairs]
        if not all(sides):
            # Some libraries cannot read nothing.
            return np.empty(sides, self.dtype)[after]  # type: ignore[no-any-return]
        found = np.asarray(self.read(box)).astype(self.dtype, copy=False)
        return found[after]  # type: ignore[no-any-return]

    def __array__(
        self,
        dtype: np.dtype[Any] | None = None,
        copy: bool | None = None,  # noqa: FBT001 - numpy's own signature
    ) -> NDArray[Any]:
        """Return all voxels as a numpy array."""
        del copy
        return self[:].astype(dtype or self.dtype, copy=False)


def _boxed(key: Any, shape: tuple[int, ...]) -> tuple[Box, tuple[Any, ...]]:  # noqa: ANN401
    """Return the box to read, and the index that then turns it into the answer."""
    keys = list(key) if isinstance(key, tuple) else [key]
    count = len(shape)
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        keys[place : place + 1] = [slice(None)] * (count + 1 - len(keys))
    keys += [slice(None)] * (count - len(keys))
    if len(keys) != count:
        axes = ", ".join("czyx"[-count:])
        message = (
            f"found {len(keys)} indices, but this volume has {count} axes ({axes}); "
            "give one for each at most"
        )
        raise IndexError(message)
    pairs = [_one(each, size) for each, size in zip(keys, shape, strict=True)]
    return tuple(box for box, _ in pairs), tuple(after for _, after in pairs)


def placed(box: Box) -> dict[str, slice]:
    """Return the slices of a box by the letters of its axes, which are Z, Y and X.

    A box of four slices begins with that of the channels, C.
    """
    return dict(zip("CZYX"[-len(box) :], box, strict=True))


def lazy_shape(
    axes: str, lengths: Sequence[int], picked: Mapping[str, int]
) -> tuple[int, ...]:
    """Return the shape (Z, Y, X), or (C, Z, Y, X), that is read of a file.

    Parameters
    ----------
    axes : str
        One letter for each axis of the file.
    lengths : sequence of int
        The lengths of these axes.
    picked : mapping
        The index that is read along each axis that the volume does not have.
    """
    known = dict(zip(axes, map(int, lengths), strict=True))
    letters = "CZYX" if "C" in axes and "C" not in picked else "ZYX"
    return tuple(known.get(letter, 1) for letter in letters)


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
        message = (
            f"index {index} lies outside of an axis of {size} voxels; expected "
            f"{-size}..{size - 1}"
        )
        raise IndexError(message)
    index %= size
    return slice(index, index + 1, 1), 0


@dataclass(frozen=True)
class RawVoxels:
    """Uncompressed voxels that lie one after another in a file, in any axis order.

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
        The letters of those axes, such as ``"ZYX"``.
    picked : mapping
        The index to read along each axis that the volume does not have.
    """

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: Sequence[int]
    axes: str = "ZYX"
    picked: Mapping[str, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The size in bytes that the file needs to hold the last voxel."""
        return self.offset + math.prod(map(int, self.shape)) * self.dtype.itemsize

    def lazy(self) -> LazyArray:
        """Return the voxels as a lazy array in (z, y, x) or (c, z, y, x)."""
        shape = lazy_shape(self.axes, self.shape, self.picked)
        return LazyArray(shape, self.dtype.newbyteorder("="), self)

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in a box of slices (z, y, x) or (c, z, y, x).

        The file is read, not mapped into memory: a mapped file that becomes shorter
        ends the process.

        Raises
        ------
        OSError
            If the file was removed, or ends before the last voxel of the box.
        """
        wanted = placed(box)
        key = [
            slice(self.picked[letter], self.picked[letter] + 1)
            if letter in self.picked
            else wanted[letter]
            for letter in self.axes
        ]
        # `_rows` reads the last two axes at once, so there must be two at least.
        lengths = [1] * (2 - len(key)) + [int(side) for side in self.shape]
        key = [slice(0, 1)] * (2 - len(key)) + key
        found = self._rows(key, lengths)
        kept = "".join(each for each in self.axes if each not in self.picked)
        volume = to_zyx(found.reshape([_count(wanted[each]) for each in kept]), kept)
        # An axis that the file lacks is one voxel long, but the box may be empty.
        return volume[tuple(slice(_count(part)) for part in box)]

    def _rows(self, key: Sequence[slice], lengths: Sequence[int]) -> NDArray[Any]:
        """Return a box along the file's own axes, read plane by plane."""
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
    """Fill an array with the bytes from the current place of a file."""
    left = memoryview(array.view(np.uint8).data).cast("B")
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError(errno.EIO, "the file was made shorter", file.name)
        left = left[count:]

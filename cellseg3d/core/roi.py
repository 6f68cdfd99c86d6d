"""A box of voxels, half-open, in the order (z, y, x)."""

from collections.abc import Sequence
from dataclasses import dataclass

Zyx = tuple[int, int, int]


def zyx(values: Sequence[int] | int) -> Zyx:
    """Return three Python ints from three numbers, or from one number for all axes."""
    if isinstance(values, int):
        return (values, values, values)
    z, y, x = (int(value) for value in values)
    return (z, y, x)


@dataclass(frozen=True, slots=True, order=True)
class Roi:
    """The voxels with ``start <= index < stop`` along each of z, y and x.

    `start` may be negative and `stop` may lie beyond the volume; `clip` cuts such a
    box.

    Examples
    --------
    >>> from cellseg3d import Roi
    >>> box = Roi.at((2, 0, 0), (3, 8, 8))
    >>> box.shape, box.slices[0]
    ((3, 8, 8), slice(2, 5, None))
    """

    start: Zyx
    stop: Zyx

    @classmethod
    def whole(cls, shape: Sequence[int]) -> "Roi":
        """Return the box that holds a whole volume of this shape (Z, Y, X)."""
        return cls((0, 0, 0), zyx(shape))

    @classmethod
    def at(cls, start: Sequence[int], shape: Sequence[int]) -> "Roi":
        """Return the box of this shape whose first voxel is `start`."""
        begin = zyx(start)
        z, y, x = (a + b for a, b in zip(begin, zyx(shape), strict=True))
        return cls(begin, (z, y, x))

    @property
    def shape(self) -> Zyx:
        """The number of voxels along (z, y, x); 0 where the box is empty."""
        pairs = zip(self.start, self.stop, strict=True)
        z, y, x = (max(0, stop - start) for start, stop in pairs)
        return (z, y, x)

    @property
    def size(self) -> int:
        """The number of voxels in the box."""
        z, y, x = self.shape
        return z * y * x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Slices that cut this box out of an array; `start` must not be negative."""
        z, y, x = (
            slice(start, stop)
            for start, stop in zip(self.start, self.stop, strict=True)
        )
        return (z, y, x)

    def grow(self, halo: Sequence[int] | int) -> "Roi":
        """Return the box with `halo` more voxels on both sides of each axis."""
        by = zyx(halo)
        start = tuple(a - b for a, b in zip(self.start, by, strict=True))
        stop = tuple(a + b for a, b in zip(self.stop, by, strict=True))
        return Roi(zyx(start), zyx(stop))

    def shift(self, offset: Sequence[int]) -> "Roi":
        """Return the box moved by `offset` voxels."""
        start = tuple(a + b for a, b in zip(self.start, zyx(offset), strict=True))
        return Roi.at(start, self.shape)

    def intersect(self, other: "Roi") -> "Roi":
        """Return the box that both share; its size is 0 when they do not meet."""
        start = tuple(map(max, self.start, other.start))
        stop = tuple(map(min, self.stop, other.stop))
        return Roi(zyx(start), zyx(tuple(map(max, start, stop))))

    def clip(self, shape: Sequence[int]) -> "Roi":
        """Return the part of the box that lies in a volume of this shape."""
        return self.intersect(Roi.whole(shape))

    def within(self, outer: "Roi") -> "Roi":
        """Return this box in coordinates in which `outer` starts at 0."""
        z, y, x = outer.start
        return self.shift((-z, -y, -x))

    def contains(self, other: "Roi") -> bool:
        """Return whether every voxel of `other` lies in this box."""
        return other.size == 0 or self.intersect(other) == other

    def __str__(self) -> str:
        """Return the box as ``z 0:4, y 8:12, x 0:16``."""
        parts = zip("zyx", self.start, self.stop, strict=True)
        return ", ".join(f"{letter} {start}:{stop}" for letter, start, stop in parts)

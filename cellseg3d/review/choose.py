"""Choose the pieces from which a network would learn most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.axes import axis_index
from cellseg3d.core.roi import Roi, Zyx, zyx

# A tile without any uncertainty still counts this much, so that n pieces are found.
LEAST = 1e-6


@dataclass
class TileMeans:
    """The mean uncertainty of every tile of every slice of a volume.

    Slices are cut into tiles of equal size that cover them. Only a number for each
    tile is kept, so a volume of any size fits into memory.

    Parameters
    ----------
    shape : tuple of int
        Shape (Z, Y, X) of the volume, in voxels.
    axis : str
        The axis across which slices are cut.
    size : int
        Longest side of a tile, in voxels.
    seen : tuple of int
        Shape (Z, Y, X) of the grid on which uncertainty is computed, in voxels. It
        covers the same volume, perhaps with other voxel edges.
    """

    shape: Zyx
    axis: str
    size: int
    seen: Zyx
    _sums: NDArray[np.float64] = field(init=False)
    _counts: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        counts = zyx(
            [math.ceil(a / b) for a, b in zip(self.shape, self.tile, strict=True)]
        )
        self._sums = np.zeros(counts)
        self._counts = np.zeros(counts)

    @property
    def tile(self) -> Zyx:
        """Shape (z, y, x) of a tile, one voxel thick along the axis."""
        sides = [
            math.ceil(length / math.ceil(length / self.size)) for length in self.shape
        ]
        sides[axis_index(self.axis)] = 1
        return zyx(sides)

    @property
    def tiles(self) -> Zyx:
        """Number of tiles along (z, y, x)."""
        return zyx(self._sums.shape)

    def add(self, roi: Roi, uncertainty_zyx: NDArray[np.float32]) -> None:
        """Add the uncertainty of a region of the grid `seen`.

        Each voxel of the grid may be added once.

        Parameters
        ----------
        roi : Roi
            The region, in voxels of the grid.
        uncertainty_zyx : ndarray of float32, shape of `roi`
            In [0, 1].
        """
        sums = uncertainty_zyx.astype(np.float64)
        counts = np.ones(sums.shape)
        places = []
        for axis in range(3):
            at = np.arange(roi.start[axis], roi.stop[axis])
            voxel = ((at + 0.5) * self.shape[axis] / self.seen[axis]).astype(int)
            tile = voxel // self.tile[axis]
            starts = np.flatnonzero(np.diff(tile, prepend=-1))
            sums = np.add.reduceat(sums, starts, axis=axis)
            counts = np.add.reduceat(counts, starts, axis=axis)
            places.append(tile[starts])
        place = np.ix_(*places)
        self._sums[place] += sums
        self._counts[place] += counts

    def means(self) -> NDArray[np.float64]:
        """Return the mean of each tile, float64, shape `tiles`; 0 if none was added."""
        return self._sums / np.maximum(self._counts, 1)

    def roi(self, index: Sequence[int]) -> Roi:
        """Return the box of the volume that the tile with an index (z, y, x) covers."""
        start = [number * side for number, side in zip(index, self.tile, strict=True)]
        return Roi.at(start, self.tile).clip(self.shape)


def choose(
    volumes: Sequence[TileMeans],
    n: int,
    before: Sequence[Sequence[Roi]] | None = None,
) -> list[tuple[int, Roi, float]]:
    """Return the most uncertain tiles that lie apart from each other.

    One tile after another is taken. A tile counts less the nearer it lies to one that
    was taken from the same volume, because neighbours look alike and the network would
    learn the same from both. While other volumes have tiles left, no volume gives more
    than twice its share, which is `n` divided by the number of volumes.

    Parameters
    ----------
    volumes : sequence of TileMeans
    n : int
        The number of tiles. Fewer are returned if there are no more.
    before : sequence of sequences of Roi, optional
        The pieces of earlier reviews in each volume. They count as taken.

    Returns
    -------
    list of (int, Roi, float)
        Number of the volume, box in it, and mean uncertainty in [0, 1], in the order
        in which the tiles were taken.
    """
    share = math.ceil(n / max(1, len(volumes)))
    means = [volume.means() for volume in volumes]
    apart = [np.ones(each.shape) for each in means]
    for number, rois in enumerate(before or ()):
        for roi in rois:
            apart[number] *= _apart_from(roi.start, volumes[number], share)
    taken: list[tuple[int, Roi, float]] = []
    left = [2 * share] * len(volumes)
    while len(taken) < n:
        best = [
            ((each + LEAST) * far).max() if room else 0.0
            for each, far, room in zip(means, apart, left, strict=True)
        ]
        number = int(np.argmax(best))
        if best[number] <= 0 and min(left) > 0:
            break
        if best[number] <= 0:  # the other volumes have no tiles left
            left = [n] * len(volumes)
            continue
        scores = (means[number] + LEAST) * apart[number]
        index = np.unravel_index(int(scores.argmax()), scores.shape)
        place = [int(each) for each in index]
        value = float(means[number][index])
        taken.append((number, volumes[number].roi(place), value))
        apart[number] *= _apart_from(taken[-1][1].start, volumes[number], share)
        left[number] -= 1
    return taken


def _apart_from(
    start: Sequence[int], volume: TileMeans, share: int
) -> NDArray[np.float64]:
    """Return a factor in [0, 1] for each tile, which is small near a taken piece.

    The piece begins at `start`. Within a slice, the factor recovers over about one
    tile. Across slices, it recovers over half the distance that the volume's share of
    slices would have if they were spread evenly.
    """
    across = axis_index(volume.axis)
    squares: NDArray[np.float64] = np.zeros((1, 1, 1))
    for axis, tiles in enumerate(volume.tiles):
        reach = max(1.0, volume.shape[across] / (2 * share)) if axis == across else 1.0
        distance = (np.arange(tiles) - start[axis] // volume.tile[axis]) / reach
        shape = [1, 1, 1]
        shape[axis] = tiles
        squares = squares + (distance**2).reshape(shape)
    far: NDArray[np.float64] = 1 - np.exp(-squares)
    return far

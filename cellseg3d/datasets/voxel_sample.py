"""Read a sample of voxels that is spread evenly over a volume."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.volume import Volume

# With this many voxels a percentile is right to about 0.1 % of the range.
SAMPLE_VOXELS = 2_000_000
# Number of sampled blocks along each axis. It is small, because each block is one read.
SAMPLE_BLOCKS = 6


def sample_voxels(volume: Volume) -> NDArray[Any]:
    """Return at most about 2e6 voxels from blocks spread evenly over the volume.

    Parameters
    ----------
    volume : Volume
        The volume; it is read block by block.

    Returns
    -------
    ndarray of the volume's dtype (float32 or wider for floats, uint8 for bool),
    shape (n,)
    """
    parts = [volume.read(roi).ravel() for roi in sample_rois(volume.shape)]
    values = np.concatenate(parts)
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def sample_rois(shape: Sequence[int], limit: int = SAMPLE_VOXELS) -> Iterator[Roi]:
    """Yield blocks spread evenly over a volume; the whole volume when it is small.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume (Z, Y, X), in voxels.
    limit : int
        The most voxels that all blocks hold together. There are up to 216 blocks, each
        of at least one voxel.
    """
    whole = Roi.whole(shape)
    if whole.size <= limit:
        yield whole
        return
    intervals: dict[int, list[tuple[int, int]]] = {}
    share = limit / whole.size
    # Thin axes come first: if little can be left out along them, more is left out along
    # the longer axes.
    for left, axis in zip(
        (3, 2, 1), np.argsort(whole.shape, kind="stable"), strict=True
    ):
        size = whole.shape[axis]
        intervals[int(axis)] = _intervals(size, min(1.0, share ** (1 / left)))
        share *= size / sum(stop - start for start, stop in intervals[int(axis)])
    for box in itertools.product(*(intervals[axis] for axis in range(3))):
        begin, end = zip(*box, strict=True)
        yield Roi(zyx(begin), zyx(end))


def _intervals(size: int, share: float) -> list[tuple[int, int]]:
    """Return up to six equal, evenly spread intervals that cover `share` of an axis."""
    count = min(SAMPLE_BLOCKS, size)
    length = max(1, int(size / count * share))
    centres = ((2 * index + 1) * size / (2 * count) for index in range(count))
    starts = [min(max(0, int(mid - length / 2)), size - length) for mid in centres]
    return [(start, start + length) for start in starts]

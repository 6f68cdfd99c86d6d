"""Join the regions of all blocks into one graph that does not depend on the blocks."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.objects.pairs import IntArray, Pairs
from cellseg3d.objects.regions import FAR, BlockRegions


@dataclass
class RegionGraph:
    """The regions of a whole volume, sorted by first voxel, and which of them touch.

    Parameters
    ----------
    size, first, kind, peak, pairs
        As in `BlockRegions`, for the regions of the whole volume.
    of : ndarray of int64, shape (number of regions in all blocks,)
        The region of the volume that each region of a block belongs to.
    offsets : list of int
        Number of regions in the blocks before each block.
    labels : list of ndarray or None
        The region of each voxel of each block, if they are kept.
    """

    size: IntArray
    first: IntArray
    kind: IntArray
    peak: NDArray[np.float32]
    pairs: Pairs
    of: IntArray
    offsets: list[int]
    labels: list[NDArray[np.uint32] | None]


@dataclass
class _Seams:
    """The layers of voxels that earlier blocks share with later ones."""

    windows: dict[Zyx, tuple[Roi, list[NDArray[np.uint32] | None]]]
    offsets: dict[Zyx, int]
    joined: list[IntArray] = field(default_factory=list)


def stitch(blocks: Iterable[BlockRegions], block: Zyx) -> RegionGraph:
    """Return the regions of a volume from those of its blocks, which come in C order.

    Regions of two blocks that share a voxel are joined, and their sizes are summed. The
    regions are sorted by first voxel, so the graph is the same for any block shape.

    Parameters
    ----------
    blocks : iterable of BlockRegions
        The regions of each block.
    block : tuple of int
        Shape of a block (z, y, x), in voxels.
    """
    seams = _Seams({}, {})
    columns: list[tuple[NDArray[np.int64 | np.float32], ...]] = []
    pairs, offsets, labels = [], [], []
    offset = 0
    for regions in blocks:
        offsets.append(offset)
        labels.append(regions.labels)
        columns.append((regions.size, regions.first, regions.kind, regions.peak))
        found = regions.pairs
        pairs.append((found.low - 1 + offset, found.high - 1 + offset, found))
        _join_seams(seams, regions, block, offset)
        offset += len(regions.size)
    one_of = _union(np.concatenate([np.zeros((0, 2), np.int64), *seams.joined]), offset)
    size, first, kind, peak = (_column(columns, index) for index in range(4))
    return _graph(
        one_of, (size, first, kind, peak), pairs, offsets=offsets, labels=labels
    )


def _column(
    columns: list[tuple[NDArray[np.int64 | np.float32], ...]], at: int
) -> IntArray:
    return np.concatenate([np.zeros(0, np.int64), *(row[at] for row in columns)])


def _join_seams(seams: _Seams, regions: BlockRegions, block: Zyx, offset: int) -> None:
    """Record which regions of a block share voxels with those of earlier blocks."""
    z, y, x = (
        start // size for start, size in zip(regions.core.start, block, strict=True)
    )
    for dz, dy, dx in itertools.product((0, 1), repeat=3):
        place = (z - dz, y - dy, x - dx)
        if place in seams.windows:
            axis = 0 if dz else 1 if dy else 2
            _join(seams, regions, place, axis, offset)
    seams.windows[z, y, x] = (regions.window, regions.upper)
    seams.offsets[z, y, x] = offset
    for place in [place for place in seams.windows if place[0] < z - 1]:
        del seams.windows[place], seams.offsets[place]


def _join(
    seams: _Seams,
    regions: BlockRegions,
    place: Zyx,
    axis: int,
    offset: int,
) -> None:
    window, upper = seams.windows[place]
    layer = upper[axis]
    if layer is None:
        return
    shared = window.intersect(regions.core)
    theirs = _layer(layer, axis, shared.within(window))
    mine = _layer(regions.lower[axis], axis, shared.within(regions.core))
    both = theirs > 0
    pairs = np.stack(
        [
            theirs[both].astype(np.int64) - 1 + seams.offsets[place],
            mine[both].astype(np.int64) - 1 + offset,
        ],
        axis=1,
    )
    seams.joined.append(np.unique(pairs, axis=0))


def _layer(layer: NDArray[np.uint32], axis: int, roi: Roi) -> NDArray[np.uint32]:
    """Return the part of a layer across `axis` that lies in a box."""
    rows = [part for index, part in enumerate(roi.slices) if index != axis]
    return layer[tuple(rows)].ravel()


def _union(joined: IntArray, count: int) -> IntArray:
    from scipy.sparse import coo_array  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    if not count:
        return np.zeros(0, np.int64)
    ones = np.ones(len(joined), np.bool_)
    graph = coo_array((ones, (joined[:, 0], joined[:, 1])), (count, count))
    one_of: IntArray = connected_components(graph, directed=False)[1].astype(np.int64)
    return one_of


def _graph(
    one_of: IntArray,
    columns: tuple[IntArray, ...],
    pairs: list[tuple[IntArray, IntArray, Pairs]],
    *,
    offsets: list[int],
    labels: list[NDArray[np.uint32] | None],
) -> RegionGraph:
    size, first, kind, peak = columns
    count = int(one_of.max(initial=-1)) + 1
    firsts = np.full(count, FAR, np.int64)
    np.minimum.at(firsts, one_of, first)
    order = np.argsort(firsts)
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    of = rank[one_of]
    sizes = np.zeros(count, np.int64)
    np.add.at(sizes, of, size)
    peaks = np.zeros(count, np.float32)
    np.maximum.at(peaks, of, peak.astype(np.float32))
    kinds = np.zeros(count, np.int64)
    kinds[of] = kind
    return RegionGraph(
        sizes, firsts[order], kinds, peaks, _same_pairs(pairs, of), of, offsets, labels
    )


def _same_pairs(pairs: list[tuple[IntArray, IntArray, Pairs]], of: IntArray) -> Pairs:
    """Return the pairs of the whole volume, with highest pass and summed links."""
    nothing = Pairs.none()
    low = of[np.concatenate([nothing.low, *(row[0] for row in pairs)])]
    high = of[np.concatenate([nothing.high, *(row[1] for row in pairs)])]
    saddle = np.concatenate([nothing.saddle, *(row[2].saddle for row in pairs)])
    total = np.concatenate([nothing.total, *(row[2].total for row in pairs)])
    count = np.concatenate([nothing.count, *(row[2].count for row in pairs)])
    apart = low != high
    low, high = np.minimum(low, high)[apart], np.maximum(low, high)[apart]
    saddle, total, count = saddle[apart], total[apart], count[apart]
    order = np.lexsort((high, low))
    low, high = low[order], high[order]
    new = np.ones(len(low), np.bool_)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    starts = np.flatnonzero(new)
    if not len(starts):
        return nothing
    return Pairs(
        low[starts],
        high[starts],
        np.maximum.reduceat(saddle[order], starts),
        np.add.reduceat(total[order], starts),
        np.add.reduceat(count[order], starts),
    )

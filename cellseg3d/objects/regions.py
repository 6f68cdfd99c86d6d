"""Divide one block into regions, in the same way as the whole volume would be.

The window of a block is the block (its core) and one more layer of voxels on the upper
sides. Each pair of neighbouring voxels then lies in some window, and neighbouring
windows share a layer of voxels. What is decided about a pair of voxels depends on a
neighbourhood of limited size. Regions that share voxels are joined later, in `stitch`.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.roi import Roi
from cellseg3d.objects.basins import climb, core_height, depth_map
from cellseg3d.objects.links import link_regions
from cellseg3d.objects.pairs import IntArray, Pairs, touching
from cellseg3d.objects.source import ObjectSource

FAR = np.iinfo(np.int64).max


@dataclass
class BlockRegions:
    """The regions of a window, and what `stitch` needs to know about them.

    Parameters
    ----------
    core, window : Roi
        The block, and the block with one more layer on its upper sides.
    size, first : ndarray of int64, shape (n,)
        Number of the region's voxels in the core, and the first of them as a flat index
        (C order) in the volume.
    kind : ndarray of int64, shape (n,)
        Class of the region.
    peak : ndarray of float32, shape (n,)
        Largest height in the region.
    pairs : Pairs
        Which regions touch.
    lower, upper : list of ndarray of uint32
        For each axis, the regions in the first layer of the core, and in the layer
        above the core (None at the end of the volume).
    labels : ndarray of uint32, shape of the core, or None
        The region of each voxel, numbered from 1.
    """

    core: Roi
    window: Roi
    size: IntArray
    first: IntArray
    kind: IntArray
    peak: NDArray[np.float32]
    pairs: Pairs
    lower: list[NDArray[np.uint32]]
    upper: list[NDArray[np.uint32] | None]
    labels: NDArray[np.uint32] | None = field(default=None)


def find_regions(source: ObjectSource, core: Roi, *, keep: bool) -> BlockRegions:
    """Return the regions of a block.

    Parameters
    ----------
    source : ObjectSource
        Class labels or probabilities; they are read with the halo that the method
        needs.
    core : Roi
        The block. The blocks of a volume do not overlap and cover it.
    keep : bool
        Whether to keep the region of each voxel, so that they need not be computed
        again for the second pass.
    """
    stop = tuple(end + 1 for end in core.stop)
    window = Roi(core.start, (stop[0], stop[1], stop[2])).clip(source.shape)
    labels, kinds, heights, peak, pairs = _cut(source, core, window)
    inner = core.within(window).slices
    count = len(peak)
    mine = labels[inner]
    size = np.bincount(mine.ravel(), minlength=count + 1)[1:]
    kind = np.zeros(count + 1, np.int64)
    kind[labels.ravel()] = kinds.ravel()
    if pairs is None:
        pairs = touching(labels, kinds, heights, core.shape)
    return BlockRegions(
        core=core,
        window=window,
        size=size.astype(np.int64),
        first=_first_voxels(mine, core, source.shape, count),
        kind=kind[1:],
        peak=peak,
        pairs=pairs,
        lower=[_layer(mine, axis, 0) for axis in range(3)],
        upper=[
            _layer(labels, axis, -1) if window.stop[axis] > core.stop[axis] else None
            for axis in range(3)
        ],
        labels=mine.copy() if keep else None,
    )


def relabel(source: ObjectSource, core: Roi) -> NDArray[np.uint32]:
    """Return the regions of a block's core, numbered as `find_regions` does."""
    stop = tuple(end + 1 for end in core.stop)
    window = Roi(core.start, (stop[0], stop[1], stop[2])).clip(source.shape)
    return _cut(source, core, window)[0][core.within(window).slices]


Cut = tuple[
    NDArray[np.uint32],
    NDArray[Any],
    NDArray[np.float32] | None,
    NDArray[np.float32],
    Pairs | None,
]


def _cut(source: ObjectSource, core: Roi, window: Roi) -> Cut:
    """Return regions, classes and heights of a window; peaks and pairs of regions."""
    if source.options.method == "affinity":
        labels, pairs = link_regions(source, core, window)
        peak = np.zeros(int(labels.max(initial=0)), np.float32)
        return labels, (labels > 0).astype(np.uint8), None, peak, pairs
    if source.options.method == "components":
        return _components(source, window)
    scale = source.scale
    near = window.grow(1).clip(source.shape)
    far = near.grow(scale.radius_voxels).clip(source.shape)
    classes = source.classes(far)
    inner = near.within(far).slices
    if source.options.method == "border-core":
        heights = core_height(classes, scale)[inner]
        kinds = (classes[inner] > 0).astype(np.uint8)
    else:
        heights, kinds = depth_map(classes, scale)[inner], classes[inner]
    labels, peak = climb(heights, kinds, window.within(near))
    inner = window.within(near).slices
    return labels, kinds[inner], heights[inner], peak, None


def _components(source: ObjectSource, window: Roi) -> Cut:
    import cc3d  # noqa: PLC0415

    classes = np.ascontiguousarray(source.classes(window))
    labels, count = cc3d.connected_components(
        classes,
        connectivity=source.options.connectivity,
        return_N=True,
        out_dtype=np.uint32,
    )
    peak = np.zeros(count, np.float32)
    return labels.astype(np.uint32, copy=False), classes, None, peak, Pairs.none()


def _first_voxels(
    labels: NDArray[np.uint32], core: Roi, shape: tuple[int, int, int], count: int
) -> IntArray:
    """Return each region's first voxel of the volume, as a flat index in C order."""
    first = np.full(count + 1, FAR, np.int64)
    flat = labels.ravel()
    index = np.flatnonzero(flat)[::-1]
    first[flat[index]] = index  # The last one written is the first in C order.
    known = first < FAR
    z, y, x = np.unravel_index(first[known], core.shape)
    z, y, x = (z + core.start[0], y + core.start[1], x + core.start[2])
    first[known] = (z * shape[1] + y) * shape[2] + x
    return first[1:]


def _layer(labels: NDArray[np.uint32], axis: int, at: int) -> NDArray[np.uint32]:
    """Return a copy of one layer, so that the memory of the block can be freed."""
    return np.array(np.moveaxis(labels, axis, 0)[at])

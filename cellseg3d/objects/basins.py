"""Divide the foreground into basins with a watershed by steepest ascent [1]_.

Each voxel has a height, such as its distance to the background. From each voxel a path
leads to its highest neighbour, and on, until no neighbour is higher. The voxels whose
paths end at the same maximum form a basin. The next voxel of a path depends only on six
neighbours, so a volume can be processed in blocks of any size.

References
----------
.. [1] Zlateski and Seung 2015, arXiv:1505.00249; Meyer 1994, Signal Process. 38:113,
   doi:10.1016/0165-1684(94)90060-4
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.roi import Roi
from cellseg3d.datasets.targets import CORE
from cellseg3d.objects.options import LengthScale


def depth_map(classes: NDArray[Any], scale: LengthScale) -> NDArray[np.float32]:
    """Return the distance of each voxel to the nearest voxel of another class.

    Parameters
    ----------
    classes : ndarray of unsigned integers, shape (z, y, x)
        Class indices, 0 background.
    scale : LengthScale
        The unit of distances, and their limit.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Distances in steps of the scale, at most its radius; 0 in the background. The
        border of the volume does not count as another class.
    """
    squared = _squared_distance(classes, scale)
    return np.sqrt(np.minimum(squared, np.float32(scale.radius_steps) ** 2))


def core_height(classes: NDArray[Any], scale: LengthScale) -> NDArray[np.float32]:
    """Return a height that is largest in cores and falls with the distance from them.

    Parameters
    ----------
    classes : ndarray of unsigned integers, shape (z, y, x)
        0 background, 1 core, 2 border.
    scale : LengthScale
        The unit of distances, and their limit.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        The scale's radius + 1 in cores. In borders, this minus the distance to the
        nearest core in steps, at least 1. In the background, 0.
    """
    away = (classes != CORE).astype(np.uint8)
    squared = _squared_distance(away, scale)
    top = np.float32(scale.radius_steps)
    height = top + 1 - np.sqrt(np.minimum(squared, top**2))
    return np.where(classes > 0, height, np.float32(0))


def _squared_distance(classes: NDArray[Any], scale: LengthScale) -> NDArray[np.float32]:
    import edt  # noqa: PLC0415

    # edt gives 0 everywhere for an axis of length 0 and infinity without a boundary.
    squared: NDArray[np.float32] = edt.edtsq(
        np.ascontiguousarray(classes),
        anisotropy=tuple(float(steps) for steps in scale.steps_zyx),
        black_border=False,
        parallel=1,
    )
    return squared


def climb(
    heights: NDArray[np.float32], classes: NDArray[Any], window: Roi
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return the basins of a window, and the largest height in each basin.

    The path from a voxel leads to its highest face neighbour of the same class, if that
    is higher than the voxel; of equally high ones, to the first of z-, z+, y-, y+, x-,
    x+. Adjacent voxels without a higher neighbour form one maximum. A path that leaves
    the window ends at its last voxel inside; `stitch` joins it to the neighbouring
    window.

    Parameters
    ----------
    heights, classes : ndarray, shape of the window and one voxel around it
        Heights and class indices. The voxel around is missing where the volume ends.
    window : Roi
        The window, in the coordinates of the arrays.

    Returns
    -------
    labels : ndarray of uint32, shape of the window
        The basins, numbered from 1; 0 in the background.
    peak : ndarray of float32, shape (number of basins,)
        The largest height in each basin.
    """
    inner = window.slices
    height, kind = heights[inner], classes[inner]
    target, leaves = _highest_neighbour(heights, classes, window)
    foreground = np.flatnonzero(kind)
    summit = (target < 0) & (kind > 0)
    labels, count = _summits(kind, summit & ~leaves)
    flat = labels.ravel()
    exits = np.flatnonzero(leaves)
    flat[exits] = np.arange(count + 1, count + 1 + len(exits), dtype=np.uint32)
    peak = np.zeros(count + len(exits) + 1, np.float32)
    roots = foreground[flat[foreground] > 0]
    peak[flat[roots]] = height.ravel()[roots]
    flat[foreground] = flat[_follow(target.ravel(), foreground)]
    return labels, peak[1:]


def _highest_neighbour(
    heights: NDArray[np.float32], classes: NDArray[Any], window: Roi
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the next voxel of each voxel's path, and whether it leaves the window.

    The next voxel is a flat index, or -1 if there is none in the window.
    """
    inner = window.slices
    shape = window.shape
    best = heights[inner].copy()
    kind = classes[inner]
    target = np.full(shape, -1, np.int32)
    leaves = np.zeros(shape, np.bool_)
    index = np.arange(kind.size, dtype=np.int32).reshape(shape)
    strides = (shape[1] * shape[2], shape[2], 1)
    for axis in range(3):
        for side in (-1, 1):
            here, there = _shifted(window, heights.shape, axis, side)
            higher = heights[there] > best[here]
            higher &= classes[there] == kind[here]
            higher &= kind[here] > 0
            best[here][higher] = heights[there][higher]
            target[here][higher] = index[here][higher] + side * strides[axis]
            leaves[here][higher] = False
            edge = [slice(None)] * 3
            edge[axis] = slice(-1, None) if side > 0 else slice(0, 1)
            if here[axis] == slice(0, shape[axis]):
                outside = tuple(edge)
                leaves[outside] |= higher[outside]
    target[leaves] = -1
    return target, leaves


def _shifted(
    window: Roi, shape: tuple[int, ...], axis: int, side: int
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return slices of the voxels that have this neighbour, and of the neighbours."""
    here = [slice(0, size) for size in window.shape]
    there = list(window.slices)
    low = window.start[axis] + side
    high = window.stop[axis] + side
    cut_low, cut_high = max(0, -low), max(0, high - shape[axis])
    here[axis] = slice(cut_low, window.shape[axis] - cut_high)
    there[axis] = slice(low + cut_low, high - cut_high)
    return tuple(here), tuple(there)


def _summits(
    kind: NDArray[Any], summit: NDArray[np.bool_]
) -> tuple[NDArray[np.uint32], int]:
    import cc3d  # noqa: PLC0415

    labels, count = cc3d.connected_components(
        np.where(summit, kind, 0),
        connectivity=6,
        return_N=True,
        out_dtype=np.uint32,
    )
    return np.ascontiguousarray(labels), int(count)


def _follow(
    target: NDArray[np.int32], foreground: NDArray[np.intp]
) -> NDArray[np.int32]:
    """Return the end of each foreground voxel's path; each pass doubles the steps."""
    ends = target.copy()
    stays = ends < 0
    ends[stays] = np.flatnonzero(stays).astype(np.int32)
    now = ends[foreground]
    while True:
        ends[foreground] = now
        further = ends[now]
        if np.array_equal(further, now):
            return now
        now = further

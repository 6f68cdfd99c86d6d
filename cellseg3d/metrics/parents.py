"""Find the larger object that each object lies in, and the distance to its boundary."""

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.contingency import Ids, count_slices, total
from cellseg3d.metrics.object_sums import runs, slabs_of

Floats = NDArray[np.float64]


def most_common(
    labels: ArrayLike, other: ArrayLike, ids: Ids, ignore: tuple[int, ...] = (0,)
) -> tuple[Ids, Floats]:
    """Return the value of another volume that covers most voxels of each object.

    Parameters
    ----------
    labels, other : arrays or lazy arrays of integers, shape (Z, Y, X)
        Object ids, and the ids of parents or the values of classes.
    ids : ndarray of int64, shape (n,)
        The objects to look up, sorted.
    ignore : tuple of int
        Values of `other` that are never returned.

    Returns
    -------
    values : ndarray of int64, shape (n,)
        0 where no value covers the object; the smallest of equally common values.
    shares : ndarray of float64, shape (n,)
        Share of the object's voxels that have this value.

    Raises
    ------
    LabelError
        If the shapes differ or values are not integers.
    """
    table = total(count_slices(labels, other))
    objects, sizes = table.predicted_sizes()
    size = sizes[np.searchsorted(objects, ids)]
    answers = table.select((table.predicted != 0) & ~np.isin(table.true, ignore))
    order = np.lexsort((answers.true, -answers.count, answers.predicted))
    owner = answers.predicted[order]
    changed = owner[1:] != owner[:-1]
    first = np.flatnonzero(np.r_[np.ones(min(1, len(owner)), bool), changed])
    position = np.searchsorted(ids, owner[first])
    values, shared = np.zeros(len(ids), table.true.dtype), np.zeros(len(ids), np.int64)
    values[position] = answers.true[order][first]
    shared[position] = answers.count[order][first]
    return values, shared / size


def boundary_distance(
    labels: ArrayLike,
    parents: NDArray[np.integer],
    ids: Ids,
    spacing: Spacing,
) -> Floats:
    """Return the distance of each object from the boundary of its parent, in um.

    A boundary voxel of a parent has a face neighbour with another value; the border of
    the volume is no boundary. The distance runs from the object's nearest voxel centre
    to the nearest centre of a boundary voxel. It is 0 when the object reaches it.

    Parameters
    ----------
    labels : array or lazy array of integers, shape (Z, Y, X)
        Object ids.
    parents : ndarray of integers, shape (Z, Y, X)
        Ids of the parents.
    ids : ndarray of int64, shape (n,)
        The objects to measure, sorted.
    spacing : Spacing

    Returns
    -------
    ndarray of float64, shape (n,)
        Distances in um; infinite when there is no boundary at all.
    """
    distance = _distance_to(boundary_voxels(parents), spacing)
    nearest = np.full(len(ids), np.inf)
    for slab in slabs_of(labels):
        inner = slab.compact[1 : 1 + slab.depth, 1:-1, 1:-1]
        starts, _ = runs(inner)
        part = distance[slab.start : slab.start + slab.depth]
        least = np.minimum.reduceat(part.ravel(), starts)
        small = inner.ravel()[starts]
        inside = small > 0
        own = slab.ids.astype(ids.dtype)[small[inside]]
        position = np.searchsorted(ids, own)
        np.minimum.at(nearest, position, least[inside])
    return nearest


def boundary_voxels(parents: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the voxels above 0 that have a face neighbour with another value."""
    found = np.zeros(parents.shape, bool)
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        change = parents[low] != parents[high]
        found[low] |= change
        found[high] |= change
    return found & (parents > 0)


def _distance_to(mask: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float32]:
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    try:
        import edt  # noqa: PLC0415 - an extra, several times faster than scipy
    except ImportError:
        from scipy import ndimage  # noqa: PLC0415

        found = ndimage.distance_transform_edt(~mask, sampling=spacing.zyx)
        return np.asarray(found, np.float32)
    return np.asarray(edt.edt(~mask, anisotropy=spacing.zyx), np.float32)

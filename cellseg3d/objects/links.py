"""Find regions whose voxels are joined by strong predicted links (affinities)."""

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.roi import Roi
from cellseg3d.objects.pairs import Pairs, neighbours
from cellseg3d.objects.source import ObjectSource


def link_regions(
    source: ObjectSource, core: Roi, window: Roi
) -> tuple[NDArray[np.uint32], Pairs]:
    """Return the regions that strong links join, and the links between the regions.

    A voxel is background if none of its links reaches `merge_affinity`.

    Parameters
    ----------
    source : ObjectSource
        A source with three channels: the link of each voxel to its lower neighbour
        along z, y and x, as Turaga et al. [1]_ predict them.
    core, window : Roi
        The block, and the block with one more layer of voxels on its upper sides.

    Returns
    -------
    labels : ndarray of uint32, shape of `window`
        The regions, numbered from 1; 0 in the background.
    pairs : Pairs
        Touching regions with the sum of the links between them, in units of 1/65535,
        and the number of links.

    References
    ----------
    .. [1] Turaga et al. 2010, Neural Comput. 22:511, doi:10.1162/neco.2009.10-08-881
    """
    near = window.grow(1).clip(source.shape)
    links = source.affinities(near)
    strong = round(source.options.strong_affinity * 65535)
    weakest = round(source.options.merge_affinity * 65535)
    foreground = _linked(links, min(strong, weakest))[window.within(near).slices]
    links = links[(slice(None), *window.within(near).slices)]
    labels = _joined(links >= strong, foreground)
    return labels, _mean_links(labels, links, core.shape)


def _linked(links: NDArray[np.uint16], least: int) -> NDArray[np.bool_]:
    """Return whether each voxel has a link of at least `least` to some neighbour."""
    linked = np.zeros(links.shape[1:], np.bool_)
    for axis in range(3):
        here, there = neighbours(linked.shape, linked.shape, axis)
        enough = links[axis][there] >= least
        linked[here] |= enough
        linked[there] |= enough
    return linked


def _joined(
    strong: NDArray[np.bool_], foreground: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    from scipy.sparse import coo_array  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    shape = foreground.shape
    place = np.cumsum(foreground.ravel(), dtype=np.int32).reshape(shape) - 1
    ones, twos = [], []
    for axis in range(3):
        here, there = neighbours(shape, shape, axis)
        joined = strong[axis][there] & foreground[here] & foreground[there]
        ones.append(place[here][joined])
        twos.append(place[there][joined])
    one, two = np.concatenate(ones), np.concatenate(twos)
    size = int(foreground.sum())
    labels = np.zeros(shape, np.uint32)
    if size:
        graph = coo_array((np.ones(len(one), np.bool_), (one, two)), (size, size))
        labels[foreground] = connected_components(graph, directed=False)[1] + 1
    return labels


def _mean_links(
    labels: NDArray[np.uint32],
    links: NDArray[np.uint16],
    core_shape: tuple[int, int, int],
) -> Pairs:
    """Return touching regions with the sum and number of the links between them."""
    keys, values = [], []
    base = np.int64(labels.max(initial=0)) + 1
    for axis in range(3):
        here, there = neighbours(labels.shape, core_shape, axis)
        one, two = labels[here], labels[there]
        edge = (one != two) & (one > 0) & (two > 0)
        one, two = one[edge].astype(np.int64), two[edge].astype(np.int64)
        keys.append(np.minimum(one, two) * base + np.maximum(one, two))
        values.append(links[axis][there][edge].astype(np.int64))
    key, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.zeros(len(key), np.int64)
    np.add.at(total, inverse, np.concatenate(values))
    count = np.bincount(inverse, minlength=len(key)).astype(np.int64)
    return Pairs(key // base, key % base, np.zeros(len(key), np.float32), total, count)

"""Sum up size, moments, bounding box and surface area of each object, slab by slab.

Labels are constant over runs along x, so everything except intensity is summed over
runs instead of voxels. Areas are summed over the 2 x 2 x 2 cells that hold more than
one value. There is no loop over objects, so many small objects cost no more than one
large object of the same volume.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.errors import LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.cell_area import crofton_areas, mesh_areas
from cellseg3d.metrics.contingency import as_ids, together

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SLAB_VOXELS = 2**22


@dataclass(frozen=True)
class ObjectSums:
    """Sums over the voxels of each object, one row per object in the order of `ids`.

    Parameters
    ----------
    ids : ndarray of int64, shape (n,)
        Rising ids, without 0.
    voxels : ndarray of int64, shape (n,)
    first : ndarray of float64, shape (n, 3)
        Sum of the voxel indices (z, y, x).
    second : ndarray of float64, shape (n, 6)
        Sum of the products of the indices: zz, yy, xx, zy, zx, yx.
    lowest, highest : ndarray of int64, shape (n, 3)
        Smallest and largest voxel index (z, y, x).
    areas : ndarray of float64, shape (n, 2)
        Mesh and Crofton surface area, in um^2; in voxel faces without a spacing.
    intensity : ndarray of float64, shape (n, 2)
        Mean of the intensity, and the sum of squared differences from it; zeros when
        there is no image.
    """

    ids: Ints
    voxels: Ints
    first: Floats
    second: Floats
    lowest: Ints
    highest: Ints
    areas: Floats
    intensity: Floats


@dataclass(frozen=True)
class Slab:
    """Some slices with a border of background and the slice before, with small ids.

    Parameters
    ----------
    ids : ndarray of int64, shape (n + 1,)
        The labels that occur in the slab; ``ids[0]`` is 0.
    compact : ndarray of int32, shape (1 + depth (+ 1), Y + 2, X + 2)
        Position in `ids` of each voxel. The first slice is the one before the slab
        (background at the start); the last slab ends with a slice of background.
    start, depth : int
        The first slice, and the number of slices.
    """

    ids: Ints
    compact: NDArray[np.int32]
    start: int
    depth: int


def sum_objects(
    labels: ArrayLike,
    spacing: Spacing | None = None,
    image: ArrayLike | None = None,
) -> ObjectSums:
    """Sum up every object of a volume of object ids.

    Parameters
    ----------
    labels : array or lazy array of integers, shape (Z, Y, X)
        Object ids >= 0; 0 is background.
    spacing : Spacing, optional
        Edge lengths of a voxel in um; 1 when None.
    image : array or lazy array, shape (Z, Y, X), optional
        Intensities; they are not summed when None.

    Raises
    ------
    LabelError
        If labels are not integers >= 0.
    """
    edges = spacing or Spacing(1, 1, 1)
    areas = np.stack([mesh_areas(edges), crofton_areas(edges)])
    parts = []
    for slab in slabs_of(labels):
        values = None
        if image is not None:
            rows = slice(slab.start, slab.start + slab.depth)
            values = np.asarray(image[rows, :, :]).astype(np.float64)
        parts.append(_sum_slab(slab, areas, values))
    return _joined(parts)


def slabs_of(labels: ArrayLike) -> Iterator[Slab]:
    """Yield a volume of object ids in slabs, each with the slice before it.

    Raises
    ------
    LabelError
        If labels are not integers >= 0.
    """
    if np.dtype(labels.dtype).kind not in "iub":
        message = f"object ids must be integers, found {labels.dtype}"
        raise LabelError(message)
    depth, height, width = labels.shape
    step = max(1, SLAB_VOXELS // max(1, height * width))
    before = np.zeros((height, width), labels.dtype)
    for start in range(0, depth, step):
        part = np.asarray(labels[start : min(depth, start + step), :, :])
        if part.dtype.kind == "i" and part.size and int(part.min()) < 0:
            message = f"object ids go down to {int(part.min())}; expected 0 and more"
            raise LabelError(message)
        last = start + len(part) == depth
        block = np.zeros((1 + len(part) + last, height + 2, width + 2), part.dtype)
        block[0, 1:-1, 1:-1] = before
        block[1 : 1 + len(part), 1:-1, 1:-1] = part
        before = part[-1]
        starts, lengths = runs(block)
        found, small = np.unique(block.ravel()[starts], return_inverse=True)
        compact = np.repeat(small.astype(np.int32), lengths).reshape(block.shape)
        yield Slab(as_ids(found), compact, start, len(part))


def runs(block: NDArray[Any]) -> tuple[Ints, Ints]:
    """Return the start of each run of equal values in C order, and its length."""
    flat = block.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return starts, np.diff(starts, append=flat.size)


def _sum_slab(slab: Slab, areas: Floats, image: Floats | None) -> ObjectSums:
    own = slab.compact[1 : 1 + slab.depth]
    starts, lengths = runs(own)
    small = own.ravel()[starts]
    n = len(slab.ids)
    kept = small > 0
    small, starts, lengths = small[kept], starts[kept], lengths[kept]
    z, y, x = np.unravel_index(starts, own.shape)
    position = (z + slab.start, y - 1, x - 1)
    lowest = np.full((n, 3), np.iinfo(np.int64).max)
    highest = np.full((n, 3), -1)
    for axis, low in enumerate(position):
        np.minimum.at(lowest[:, axis], small, low)
        high = low + lengths - 1 if axis == 2 else low
        np.maximum.at(highest[:, axis], small, high)
    first, second = _moments(position, lengths, small, n)
    sums_of_all = ObjectSums(
        slab.ids,
        np.bincount(small, lengths, n).astype(np.int64),
        first,
        second,
        lowest,
        highest,
        _areas(slab.compact, areas, n),
        np.zeros((n, 2)) if image is None else _intensity(own, image, n),
    )
    return _rows(sums_of_all, slice(1, None))


def _intensity(own: NDArray[np.int32], image: Floats, n: int) -> Floats:
    """Return each object's mean intensity and its sum of squared differences."""
    inner = own[:, 1:-1, 1:-1]
    starts, lengths = runs(inner)
    small = inner.ravel()[starts]
    voxels = np.maximum(np.bincount(small, lengths, n), 1)
    mean = np.bincount(small, np.add.reduceat(image.ravel(), starts), n) / voxels
    # Sum squared differences instead of squares, since the latter lose the digits of
    # a small spread about a large mean.
    squares = (image - mean[inner]) ** 2
    spread = np.bincount(small, np.add.reduceat(squares.ravel(), starts), n)
    return np.stack([mean, spread], axis=1)


def _moments(
    position: tuple[Any, ...], lengths: Ints, small: NDArray[np.int32], n: int
) -> tuple[Floats, Floats]:
    """Return the first and second moments of runs along x, in closed form."""
    count = lengths.astype(np.float64)
    z, y, x = (each.astype(np.float64) for each in position)
    sum_x = count * (x + (count - 1) / 2)
    steps = count - 1
    sum_xx = count * x * (x + steps) + steps * count * (2 * steps + 1) / 6
    first = [z * count, y * count, sum_x]
    second = [z * z * count, y * y * count, sum_xx, z * y * count, z * sum_x, y * sum_x]
    return (
        np.stack([np.bincount(small, each, n) for each in first], axis=1),
        np.stack([np.bincount(small, each, n) for each in second], axis=1),
    )


def _areas(compact: NDArray[np.int32], areas: Floats, n: int) -> Floats:
    """Return the surface of each object within the cells of a slab, shape (n, 2)."""
    views = [
        compact[dz : dz + len(compact) - 1, dy : dy + rows, dx : dx + columns]
        for rows, columns in [(compact.shape[1] - 1, compact.shape[2] - 1)]
        for dz in (0, 1)
        for dy in (0, 1)
        for dx in (0, 1)
    ]
    mixed = np.zeros(views[0].shape, bool)
    for view in views[1:]:
        mixed |= view != views[0]
    corners = [view[mixed] for view in views]
    total = np.zeros((n, 2))
    for number, corner in enumerate(corners):
        new = corner > 0
        for earlier in corners[:number]:
            new &= earlier != corner
        chosen = np.flatnonzero(new)
        own = corner[chosen]
        way = np.full(len(own), 1 << number, np.uint8)
        for bit in range(number + 1, 8):
            way |= (corners[bit][chosen] == own).astype(np.uint8) << np.uint8(bit)
        for kind in (0, 1):
            total[:, kind] += np.bincount(own, areas[kind][way], n)
    return total


def _joined(parts: list[ObjectSums]) -> ObjectSums:
    """Return one row per object from the rows of all slabs."""
    columns = {
        field.name: together([getattr(part, field.name) for part in parts])
        for field in fields(ObjectSums)
    }
    order = np.argsort(columns["ids"], kind="stable")
    ids = columns["ids"][order]
    starts = np.flatnonzero(np.r_[np.ones(min(1, len(ids)), bool), ids[1:] != ids[:-1]])
    if not len(starts):
        return ObjectSums(**columns)
    joined = {}
    intensity = columns.pop("intensity")[order]
    for name, values in columns.items():
        join = {"lowest": np.minimum, "highest": np.maximum}.get(name, np.add)
        joined[name] = join.reduceat(values[order], starts, axis=0)
    joined["ids"] = ids[starts]
    parts_of = np.diff(starts, append=len(ids))
    voxels = columns["voxels"][order][:, None]
    total = np.maximum(joined["voxels"][:, None], 1)
    mean = np.add.reduceat(intensity[:, :1] * voxels, starts, axis=0) / total
    between = voxels * (intensity[:, :1] - np.repeat(mean, parts_of, axis=0)) ** 2
    spread = np.add.reduceat(intensity[:, 1:] + between, starts, axis=0)
    joined["intensity"] = np.concatenate([mean, spread], axis=1)
    return _rows(ObjectSums(**joined), joined["voxels"] > 0)


def _rows(sums: ObjectSums, kept: Any) -> ObjectSums:  # noqa: ANN401 - a slice or mask
    return ObjectSums(
        **{field.name: getattr(sums, field.name)[kept] for field in fields(ObjectSums)}
    )

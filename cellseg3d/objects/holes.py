"""Fill small holes: background that one class encloses."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fill_holes(
    classes: NDArray[Any], largest_zyx: tuple[int, int, int]
) -> NDArray[Any]:
    """Return classes with small holes filled by the class around them.

    A hole is a region of background, connected over faces, that does not reach the
    border of the array, is no longer than `largest_zyx` and touches only one class.
    Because its extent is limited, a block that is read with a halo of this extent and
    one voxel more contains each of its holes completely.

    Parameters
    ----------
    classes : ndarray of unsigned integers, shape (Z, Y, X)
        Class indices, 0 background.
    largest_zyx : tuple of int
        Largest extent of a hole along (z, y, x), in voxels.

    Returns
    -------
    ndarray of the same dtype and shape
        The same array if there is no hole.
    """
    import cc3d  # noqa: PLC0415

    background = np.ascontiguousarray(classes == 0)
    regions, count = cc3d.connected_components(
        background, connectivity=6, return_N=True, out_dtype=np.uint32
    )
    boxes = cc3d.statistics(regions, no_slice_conversion=True)["bounding_boxes"]
    low = boxes[:, 0::2].astype(np.int64)
    high = boxes[:, 1::2].astype(np.int64)
    # Along an axis of one voxel every region reaches the border, so it is not checked.
    flat = np.array(classes.shape) == 1
    inside = ((low > 0) | flat) & ((high < np.array(classes.shape) - 1) | flat)
    small = (high - low + 1 <= np.array(largest_zyx)) | flat
    hole = inside.all(axis=1) & small.all(axis=1)
    hole[0] = False
    if not hole.any():
        return classes
    enclosing = _enclosing(classes, np.where(hole[regions], regions, 0), count)
    return np.where(hole[regions], enclosing[regions], classes).astype(
        classes.dtype, copy=False
    )


def _enclosing(classes: NDArray[Any], holes: NDArray[Any], count: int) -> NDArray[Any]:
    """Return the class around each hole; 0 if there are several."""
    low = np.full(count + 1, np.iinfo(classes.dtype).max, classes.dtype)
    high = np.zeros(count + 1, classes.dtype)
    for axis in range(3):
        lower: list[slice] = [slice(None)] * 3
        upper: list[slice] = [slice(None)] * 3
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        for here, there in ((lower, upper), (upper, lower)):
            hole, other = holes[tuple(here)], classes[tuple(there)]
            edge = (hole > 0) & (other > 0)
            np.minimum.at(low, hole[edge], other[edge])
            np.maximum.at(high, hole[edge], other[edge])
    return np.where(low == high, high, 0).astype(classes.dtype)

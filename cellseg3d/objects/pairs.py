"""Find the regions that touch, with the highest pass or the links between them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass
class Pairs:
    """Pairs of touching regions, and how they touch.

    Parameters
    ----------
    low, high : ndarray of int64, shape (n,)
        The two regions of each pair; ``low < high``.
    saddle : ndarray of float32, shape (n,)
        Largest height at which the two regions touch.
    total, count : ndarray of int64, shape (n,)
        Sum and number of the links between them, for affinities; else 0.
    """

    low: IntArray
    high: IntArray
    saddle: NDArray[np.float32]
    total: IntArray
    count: IntArray

    @classmethod
    def none(cls) -> "Pairs":
        """Return an empty list of pairs."""
        empty = np.zeros(0, np.int64)
        return cls(empty, empty, np.zeros(0, np.float32), empty, empty)


def touching(
    labels: NDArray[np.uint32],
    kinds: NDArray[Any],
    heights: NDArray[np.float32] | None,
    core_shape: tuple[int, ...],
) -> Pairs:
    """Return the touching regions of one class and the highest pass between them.

    Parameters
    ----------
    labels, kinds : ndarray of unsigned integers, shape of the window
        Regions and classes; regions of different classes do not touch.
    heights : ndarray of float32, shape of the window, or None
        Height of each voxel; with None there are no pairs.
    core_shape : tuple of int
        Shape of the block. Two neighbouring voxels are counted if the lower one lies in
        the block, so that each pair of voxels of the volume is counted once.
    """
    if heights is None:
        return Pairs.none()
    keys, passes = [], []
    base = np.int64(labels.max(initial=0)) + 1
    for axis in range(3):
        here, there = neighbours(labels.shape, core_shape, axis)
        one, two = labels[here], labels[there]
        edge = (one != two) & (one > 0) & (two > 0) & (kinds[here] == kinds[there])
        one, two = one[edge].astype(np.int64), two[edge].astype(np.int64)
        keys.append(np.minimum(one, two) * base + np.maximum(one, two))
        passes.append(np.minimum(heights[here][edge], heights[there][edge]))
    key, saddle = np.concatenate(keys), np.concatenate(passes)
    order = np.argsort(key, kind="stable")
    key, saddle = key[order], saddle[order]
    unique, starts = np.unique(key, return_index=True)
    if not len(unique):
        return Pairs.none()
    zeros = np.zeros(len(unique), np.int64)
    return Pairs(
        unique // base,
        unique % base,
        np.maximum.reduceat(saddle, starts),
        zeros,
        zeros,
    )


def neighbours(
    shape: tuple[int, ...], core_shape: tuple[int, ...], axis: int
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return slices of the core's voxels and of their upper neighbours on an axis."""
    here = [slice(0, size) for size in core_shape]
    there = list(here)
    stop = min(core_shape[axis] + 1, shape[axis])
    here[axis], there[axis] = slice(0, stop - 1), slice(1, stop)
    return tuple(here), tuple(there)

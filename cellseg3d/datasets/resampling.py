"""Bring a volume and its label to another spacing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellseg3d.core.roi import Zyx, zyx
from cellseg3d.core.spacing import Spacing


def target_shape(shape: Sequence[int], spacing: Spacing, target: Spacing) -> Zyx:
    """Return the shape that covers the same space at another spacing, at least 1."""
    pairs = zip(shape, spacing.zyx, target.zyx, strict=True)
    return zyx([max(1, round(size * old / new)) for size, old, new in pairs])


def resample_image(image_zyx: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return an image at another shape, linearly, smoothed first where it shrinks.

    Voxel edges stay where they were, so the field of view does not move.

    Parameters
    ----------
    image_zyx : ndarray of a numeric dtype, shape (Z, Y, X)
    shape : sequence of int
        The new shape (z, y, x).

    Returns
    -------
    ndarray of the same dtype, of the new shape
        Rounded to whole numbers for integer dtypes.
    """
    result: NDArray[Any] = image_zyx.astype(np.float32)
    for axis, size in enumerate(shape):
        result = _linear(result, axis, int(size))
    if np.issubdtype(image_zyx.dtype, np.integer):
        limits = np.iinfo(image_zyx.dtype)
        np.clip(np.rint(result, out=result), limits.min, limits.max, out=result)
    return result.astype(image_zyx.dtype)


def resample_labels(labels_zyx: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return labels at another shape: each voxel that of the nearest old centre."""
    result = labels_zyx
    for axis, size in enumerate(shape):
        if size != result.shape[axis]:
            where = np.rint(_centres(result.shape[axis], int(size))).astype(np.intp)
            result = result.take(where, axis=axis)
    return result


def _linear(array: NDArray[np.float32], axis: int, size: int) -> NDArray[np.float32]:
    old = array.shape[axis]
    if size == old:
        return array
    if size < old:
        # A Gaussian that removes what the new grid cannot hold; the same rule as
        # scikit-image's anti_aliasing.
        array = ndimage.gaussian_filter1d(
            array, (old / size - 1) / 2, axis=axis, mode="nearest"
        )
    where = _centres(old, size)
    low = np.floor(where).astype(np.intp)
    high = np.minimum(low + 1, old - 1)
    part = (where - low).astype(np.float32)
    part = part.reshape([-1 if i == axis else 1 for i in range(3)])
    below, above = array.take(low, axis=axis), array.take(high, axis=axis)
    below += part * (above - below)
    return below


def _centres(old: int, new: int) -> NDArray[np.float64]:
    """Return where the centres of `new` voxels lie among `old` ones, within them."""
    return np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)

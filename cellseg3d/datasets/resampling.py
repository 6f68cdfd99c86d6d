"""Resample arrays to another voxel spacing, region by region.

Training uses this module for its volumes and labels, and prediction for volumes, labels
and probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike, ChannelStack
from cellseg3d.core.errors import SpacingError
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume


@dataclass(frozen=True)
class Resampled:
    """An array resampled to another number of voxels; a region is computed when read.

    The outer faces of the volume stay in place. A new voxel is the weighted mean of the
    old voxels around its centre; the weights fall linearly to 0 at a distance of one
    voxel of the coarser grid. This is linear interpolation on a finer grid. On a
    coarser grid it also smooths, which avoids aliasing. Pillow and
    ``torch.nn.functional.interpolate(antialias=True)`` compute the same.

    Parameters
    ----------
    source : array of a numeric dtype, shape (Z, Y, X)
        The array to resample.
    shape : tuple of int
        Shape on the new grid (z, y, x).
    nearest : bool
        Whether to take the value of the nearest old voxel, as labels need.
    """

    source: ArrayLike
    shape: Zyx
    nearest: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The source's dtype; means are rounded if it is an integer dtype."""
        return np.dtype(self.source.dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: ANN401
        """Return the voxels of a region given by three slices of step 1."""
        pairs = [part.indices(n)[:2] for part, n in zip(key, self.shape, strict=True)]
        wanted = Roi(zyx([a for a, _ in pairs]), zyx([max(p) for p in pairs]))
        if wanted.size == 0:
            return np.empty(wanted.shape, self.dtype)
        taps = [self._taps(axis, wanted) for axis in range(3)]
        start = zyx([int(index.min()) for index, _ in taps])
        stop = zyx([int(index.max()) + 1 for index, _ in taps])
        values = np.asarray(self.source[Roi(start, stop).slices])
        for axis, (index, weight) in enumerate(taps):
            values = _weigh(values, axis, index - start[axis], weight)
        if values.dtype != self.dtype and self.dtype.kind in "iu":
            np.rint(values, out=values)
        return values.astype(self.dtype, copy=False)

    def _taps(self, axis: int, wanted: Roi) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the indices (n, t) of the old voxels of each new one, and weights."""
        length = int(self.source.shape[axis])
        step = length / self.shape[axis]
        place = np.arange(wanted.start[axis], wanted.stop[axis])[:, None]
        centre = (place + 0.5) * step - 0.5
        if self.nearest or step == 1:
            near = np.clip(np.rint(centre).astype(np.intp), 0, length - 1)
            return near, np.ones(near.shape, np.float32)
        reach = max(1.0, step)
        first = np.floor(centre - reach).astype(np.intp) + 1
        index = first + np.arange(int(np.ceil(2 * reach)))
        weight = np.maximum(0, 1 - np.abs(index - centre) / reach)
        weight[(index < 0) | (index >= length)] = 0
        weight /= weight.sum(axis=1, keepdims=True)
        return np.clip(index, 0, length - 1), weight.astype(np.float32)


def _weigh(
    values: NDArray[Any], axis: int, index: NDArray[Any], weight: NDArray[Any]
) -> NDArray[Any]:
    """Return the weighted sum of voxels along an axis; with one tap, the voxels."""
    if index.shape[1] == 1:
        return values.take(index[:, 0], axis=axis)
    along = [1, 1, 1]
    along[axis] = len(index)
    total: NDArray[Any] | None = None
    for tap in range(index.shape[1]):
        part = values.take(index[:, tap], axis=axis).astype(np.float32, copy=False)
        part *= weight[:, tap].reshape(along)
        total = part if total is None else np.add(total, part, out=total)
    return values if total is None else total


def onto_spacing(volume: Volume, target: Spacing) -> Volume:
    """Return a volume resampled to a spacing; its voxels are computed when read.

    The extent of the volume does not change, so the new spacing differs from `target`
    when the extent is not a whole number of such voxels.

    Raises
    ------
    SpacingError
        If the spacing of the volume is unknown.
    """
    here = volume.spacing
    if here is None:
        message = (
            f"{volume.name}: its spacing is unknown, so it cannot be resampled to "
            f"{target}; give its voxel edges with `spacing_um`"
        )
        raise SpacingError(message)
    shape = target_shape(volume.shape, here, target)
    if shape == volume.shape:
        return volume
    sides = zip(volume.shape, here.zyx, shape, strict=True)
    edges = [old * edge / new for old, edge, new in sides]
    parts = tuple(Resampled(each.array, shape) for each in volume.each_channel())
    several = len(volume.array.shape) == 4
    array = ChannelStack(parts) if several else parts[0]
    return replace(volume, array=array, spacing=Spacing.of(edges))


def target_shape(shape: Sequence[int], spacing: Spacing, target: Spacing) -> Zyx:
    """Return the shape of a volume of the same extent at another spacing.

    An axis of one voxel keeps it: a 2D image has no extent along z.
    """
    pairs = zip(shape, spacing.zyx, target.zyx, strict=True)
    return zyx(
        [
            1 if size == 1 else max(1, round(size * old / new))
            for size, old, new in pairs
        ]
    )


def nearest_on(labels: ArrayLike, shape: Sequence[int]) -> Resampled:
    """Return labels resampled to another shape by taking the nearest voxel."""
    return Resampled(labels, zyx(shape), nearest=True)

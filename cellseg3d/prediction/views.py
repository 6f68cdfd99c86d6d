"""Test-time augmentation: a volume seen flipped and turned, answers turned back."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cellseg3d.core.axes import AXES
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.prediction.field import Field

# Edges that differ by less are the same: a turned volume has the same voxels.
EQUAL_EDGES = 0.01


@dataclass(frozen=True)
class View:
    """A way to look at a volume: two axes swapped, then some axes flipped.

    Parameters
    ----------
    order : tuple of int
        Which axis of the volume stands where, a permutation of (0, 1, 2).
    flips : tuple of bool
        Whether each axis, as it then stands, runs backwards.
    """

    order: Zyx = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def shape(self, shape: Zyx) -> Zyx:
        """Return the shape of a volume as it is seen."""
        return zyx([shape[axis] for axis in self.order])

    def seen(self, roi: Roi, shape: Zyx) -> Roi:
        """Return where a box of the volume is seen."""
        start, stop = [], []
        for axis, flipped in zip(self.order, self.flips, strict=True):
            low, high = roi.start[axis], roi.stop[axis]
            start.append(shape[axis] - high if flipped else low)
            stop.append(shape[axis] - low if flipped else high)
        return Roi(zyx(start), zyx(stop))

    def origin(self, roi: Roi, shape: Zyx) -> Roi:
        """Return the box of the volume that is seen at `roi`; undoes `seen`."""
        start, stop = [0, 0, 0], [0, 0, 0]
        for place, (axis, flipped) in enumerate(
            zip(self.order, self.flips, strict=True)
        ):
            low, high = roi.start[place], roi.stop[place]
            start[axis] = shape[axis] - high if flipped else low
            stop[axis] = shape[axis] - low if flipped else high
        return Roi(zyx(start), zyx(stop))

    def turn(self, array_czyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an array of the volume as it is seen, a view of its memory."""
        turned = array_czyx.transpose(0, *(1 + axis for axis in self.order))
        step = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return turned[(slice(None), *step)]

    def turn_back(self, seen_kzyx: Tensor) -> Tensor:
        """Return the answer to what is seen, as it lies in the volume."""
        dims = [1 + place for place, flip in enumerate(self.flips) if flip]
        back = [0, *(1 + self.order.index(axis) for axis in range(3))]
        return seen_kzyx.flip(dims).permute(back)

    def axis(self, letter: str | None) -> str | None:
        """Return the letter under which an axis of the volume is seen."""
        if letter is None:
            return None
        return AXES[self.order.index(AXES.index(letter))]


@dataclass(frozen=True)
class ViewField:
    """A field seen in another way."""

    field: Field
    view: View

    @property
    def shape(self) -> Zyx:
        """The number of voxels along the axes as they are seen."""
        return self.view.shape(self.field.shape)

    def read(self, roi: Roi) -> NDArray[np.float32]:
        """Return intensities (C, z, y, x) as they are seen, borders repeated."""
        part = self.field.read(self.view.origin(roi, self.field.shape))
        return np.ascontiguousarray(self.view.turn(part))


def symmetric_views(spacing: Spacing | None, axis: str | None) -> list[View]:
    """Return the views that keep the voxel's shape and the sense of a slice.

    All flips; and turns by 90 degrees, as a swap with a flip, in a plane whose two
    edges are equal: that of the slices, or that of y and x in 3D. With an unknown
    spacing nothing is swapped. Slices are not flipped along their own axis.

    Parameters
    ----------
    spacing : Spacing or None
        Voxel edges of the volume.
    axis : str or None
        The axis across which slices are cut; None for 3D.
    """
    across = None if axis is None else AXES.index(axis)
    plane = [each for each in range(3) if each != (across if axis else 0)]
    orders: list[Zyx] = [(0, 1, 2)]
    if spacing is not None:
        first, second = (spacing.zyx[each] for each in plane)
        if math.isclose(first, second, rel_tol=EQUAL_EDGES):
            swapped = [0, 1, 2]
            swapped[plane[0]], swapped[plane[1]] = plane[1], plane[0]
            orders.append(zyx(swapped))
    return [View(order, flips) for order in orders for flips in _flips(across)]


def _flips(fixed: int | None) -> Iterator[tuple[bool, bool, bool]]:
    for z, y, x in itertools.product((False, True), repeat=3):
        if fixed is None or not (z, y, x)[fixed]:
            yield (z, y, x)

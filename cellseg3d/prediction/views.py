"""Test-time augmentation: show a network flipped and turned copies of a volume.

The answers are turned back and fused.
"""

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

# Edges whose relative difference is smaller count as equal.
EQUAL_EDGES = 0.01


@dataclass(frozen=True)
class View:
    """A way to look at a volume: two axes swapped, then some axes flipped.

    Parameters
    ----------
    order : tuple of int
        A permutation of (0, 1, 2): the axis of the volume that each axis of the view
        shows.
    flips : tuple of bool
        Whether each axis of the view runs backwards.
    """

    order: Zyx = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def shape(self, shape: Zyx) -> Zyx:
        """Return the shape of the view of a volume of this shape."""
        return zyx([shape[axis] for axis in self.order])

    def seen(self, roi: Roi, shape: Zyx) -> Roi:
        """Return the box of the view that shows a box of the volume."""
        start, stop = [], []
        for axis, flipped in zip(self.order, self.flips, strict=True):
            low, high = roi.start[axis], roi.stop[axis]
            start.append(shape[axis] - high if flipped else low)
            stop.append(shape[axis] - low if flipped else high)
        return Roi(zyx(start), zyx(stop))

    def origin(self, roi: Roi, shape: Zyx) -> Roi:
        """Return the box of the volume that a box of the view shows; undo `seen`."""
        start, stop = [0, 0, 0], [0, 0, 0]
        for place, (axis, flipped) in enumerate(
            zip(self.order, self.flips, strict=True)
        ):
            low, high = roi.start[place], roi.stop[place]
            start[axis] = shape[axis] - high if flipped else low
            stop[axis] = shape[axis] - low if flipped else high
        return Roi(zyx(start), zyx(stop))

    def turn(self, array_czyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an array of the volume as the view shows it, without copying it."""
        turned = array_czyx.transpose(0, *(1 + axis for axis in self.order))
        step = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return turned[(slice(None), *step)]

    def turn_back(self, seen_kzyx: Tensor) -> Tensor:
        """Return a network's answer for the view, turned back onto the volume."""
        dims = [1 + place for place, flip in enumerate(self.flips) if flip]
        back = [0, *(1 + self.order.index(axis) for axis in range(3))]
        return seen_kzyx.flip(dims).permute(back)

    def axis(self, letter: str | None) -> str | None:
        """Return the axis of the view that shows an axis of the volume."""
        if letter is None:
            return None
        return AXES[self.order.index(AXES.index(letter))]


@dataclass(frozen=True)
class ViewField:
    """A field that reads another one through a view."""

    field: Field
    view: View

    @property
    def shape(self) -> Zyx:
        """The number of voxels along the axes of the view."""
        return self.view.shape(self.field.shape)

    def read(self, roi: Roi) -> NDArray[np.float32]:
        """Return intensities (C, z, y, x), with border voxels repeated."""
        part = self.field.read(self.view.origin(roi, self.field.shape))
        return np.ascontiguousarray(self.view.turn(part))


def symmetric_views(spacing: Spacing | None, axis: str | None) -> list[View]:
    """Return the views in which voxels keep their shape and slices their order.

    They are all flips, except along the axis across which slices are cut. If the two
    voxel edges of a slice (in 3D, of a slice across z) are equal, each flip comes with
    its two axes swapped as well, which gives turns by 90 degrees. With an unknown
    spacing no axes are swapped.

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

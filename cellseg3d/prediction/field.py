"""Read the scaled intensities of a volume, region by region.

A region may reach past the volume's border; the border voxels are repeated there.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import FormatError, NonFiniteError
from cellseg3d.core.mirror import mirrored
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.intensity import Amount, IntensityScale

logger = logging.getLogger(__name__)


class Field(Protocol):
    """The scaled intensities that a network sees of a volume."""

    @property
    def shape(self) -> Zyx:
        """The number of voxels along (z, y, x)."""

    def read(self, roi: Roi) -> NDArray[np.float32]:
        """Return scaled intensities (C, z, y, x), with border voxels repeated."""


@dataclass(frozen=True)
class VolumeField:
    """A volume whose intensities are scaled as they are read.

    Parameters
    ----------
    volume : Volume
        A volume in memory or on disk.
    scale : IntensityScale
    offset, factor : float, or tuple of float with one number for each channel
        The numbers that ``scale.measure`` returned for the volume.
    """

    volume: Volume
    scale: IntensityScale
    offset: Amount
    factor: Amount

    @classmethod
    def measured(cls, volume: Volume, scale: IntensityScale) -> "VolumeField":
        """Return a field of a volume, with the scale's numbers measured on it."""
        found = scale.scaling_of(volume)
        if found.note:
            logger.warning("%s: %s", volume.name, found.note)
        return cls(volume, scale, found.offset, found.factor)

    @property
    def shape(self) -> Zyx:
        """The number of voxels along (z, y, x)."""
        return self.volume.shape

    def read(self, roi: Roi) -> NDArray[np.float32]:
        """Return scaled intensities (C, z, y, x), with border voxels repeated.

        Raises
        ------
        NonFiniteError
            If a voxel is NaN or infinite; the message says which one.
        FormatError
            If the file is missing or cannot be read.
        """
        inside = nearest_inside(roi, self.shape)
        try:
            raw = self.volume.read(inside)
        except OSError as error:
            message = (
                f"{self.volume.name}: could be opened but cannot be read "
                f"({error.strerror or error}); put the file back and run again"
            )
            raise FormatError(message) from error
        self._check(raw, inside)
        scaled = self.scale.apply(raw, self.offset, self.factor)
        scaled = scaled if scaled.ndim == 4 else scaled[None]
        return repeat_border(scaled, roi, inside)

    def _check(self, raw: NDArray[Any], roi: Roi) -> None:
        # A sum is finite only if every term is, and takes a tenth of isfinite's time.
        if raw.dtype.kind != "f" or np.isfinite(raw.sum(dtype=np.float64)):
            return
        bad = np.argwhere(~np.isfinite(raw))
        z, y, x = (int(a + b) for a, b in zip(bad[0][-3:], roi.start, strict=True))
        message = (
            f"{self.volume.name}: {len(bad)} voxels of the region {roi} are NaN or "
            f"infinite, the first at (z={z}, y={y}, x={x}); repair the file first"
        )
        raise NonFiniteError(message)


@dataclass(frozen=True)
class ArrayField:
    """An array of intensities that are already scaled, of shape (C, Z, Y, X)."""

    array_czyx: NDArray[np.float32]

    @property
    def shape(self) -> Zyx:
        """The number of voxels along (z, y, x)."""
        z, y, x = self.array_czyx.shape[1:]
        return (z, y, x)

    def read(self, roi: Roi) -> NDArray[np.float32]:
        """Return intensities (C, z, y, x), with border voxels repeated."""
        inside = nearest_inside(roi, self.shape)
        return repeat_border(
            self.array_czyx[(slice(None), *inside.slices)], roi, inside
        )


@dataclass(frozen=True)
class MirroredField:
    """A field that is mirrored at its borders until it has at least some shape.

    A training sample that is larger than its volume is filled up in this way
    (`samples.crops`), so a network expects to see small volumes like this.

    Parameters
    ----------
    field : Field
    shape : tuple of int
        At least the field's own shape (z, y, x).
    """

    field: Field
    shape: Zyx

    @property
    def margin(self) -> Zyx:
        """The number of voxels before the field along (z, y, x)."""
        pairs = zip(self.shape, self.field.shape, strict=True)
        return zyx([(side - own) // 2 for side, own in pairs])

    def read(self, roi: Roi) -> NDArray[np.float32]:
        """Return intensities (C, z, y, x), with border voxels repeated."""
        places = [
            mirrored(np.arange(first, stop).clip(0, side - 1) - margin, own)
            if side > own
            else np.arange(first, stop)
            for first, stop, side, margin, own in zip(
                roi.start,
                roi.stop,
                self.shape,
                self.margin,
                self.field.shape,
                strict=True,
            )
        ]
        start = [int(place.min()) for place in places]
        stop = [int(place.max()) + 1 for place in places]
        array = self.field.read(Roi(zyx(start), zyx(stop)))
        for axis, (place, first) in enumerate(zip(places, start, strict=True)):
            if self.shape[axis] > self.field.shape[axis]:
                array = array.take(place - first, axis=axis + 1)
        return array


def nearest_inside(roi: Roi, shape: Sequence[int]) -> Roi:
    """Return the voxels of a volume that a box needs when borders are repeated."""
    start = [min(max(a, 0), side - 1) for a, side in zip(roi.start, shape, strict=True)]
    stop = [
        max(min(b, side), a + 1)
        for a, b, side in zip(start, roi.stop, shape, strict=True)
    ]
    return Roi((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def repeat_border(
    array_czyx: NDArray[np.float32], roi: Roi, inside: Roi
) -> NDArray[np.float32]:
    """Return the array (C, *roi.shape), with the border of the inside part repeated.

    Parameters
    ----------
    array_czyx : ndarray of float32, shape (C, *inside.shape)
        The voxels of `inside`.
    roi : Roi
        The box that is wanted.
    inside : Roi
        What `nearest_inside` returned for it.
    """
    pads = [(0, 0)]
    for axis in range(3):
        before = max(0, inside.start[axis] - roi.start[axis])
        length = inside.stop[axis] - inside.start[axis]
        pads.append((before, roi.stop[axis] - roi.start[axis] - before - length))
    if not np.any(pads):
        return array_czyx
    return np.pad(array_czyx, pads, mode="edge")

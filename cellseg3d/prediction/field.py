"""Scaled intensities of a volume, region by region, past its borders where asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import FormatError, NonFiniteError
from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.intensity import IntensityScale


class Field(Protocol):
    """What a network sees of a volume."""

    @property
    def shape(self) -> Zyx:
        """The number of voxels along (z, y, x)."""

    def read(self, roi: Roi) -> NDArray[np.float32]:
        """Return scaled intensities (C, z, y, x); borders are repeated beyond."""


@dataclass(frozen=True)
class VolumeField:
    """A volume under an intensity scale; `raw` may hold a region read before.

    Parameters
    ----------
    volume : Volume
        In memory or lazy.
    scale : IntensityScale
    offset, factor : float
        What ``scale.measure`` returned for the volume.
    """

    volume: Volume
    scale: IntensityScale
    offset: float
    factor: float

    @classmethod
    def measured(cls, volume: Volume, scale: IntensityScale) -> "VolumeField":
        """Return a volume under a scale measured on it."""
        return cls(volume, scale, *scale.measure(volume))

    @property
    def shape(self) -> Zyx:
        """The number of voxels along (z, y, x)."""
        return self.volume.shape

    def read(self, roi: Roi) -> NDArray[np.float32]:
        """Return scaled intensities (1, z, y, x); borders are repeated beyond.

        Raises
        ------
        NonFiniteError
            If a voxel is NaN or infinite, with its place.
        FormatError
            If the file has gone or cannot be read.
        """
        inside = nearest_inside(roi, self.shape)
        try:
            raw = self.volume.read(inside)
        except OSError as error:
            message = (
                f"{self.volume.name}: cannot be read any more "
                f"({error.strerror or error}); bring the file back and run again"
            )
            raise FormatError(message) from error
        self._check(raw, inside)
        scaled = self.scale.apply(raw, self.offset, self.factor)
        return repeat_border(scaled[None], roi, inside)

    def _check(self, raw: NDArray[Any], roi: Roi) -> None:
        # A sum is finite only if every term is, and costs a tenth of isfinite.
        if raw.dtype.kind != "f" or np.isfinite(raw.sum(dtype=np.float64)):
            return
        bad = np.argwhere(~np.isfinite(raw))
        z, y, x = (int(a + b) for a, b in zip(bad[0], roi.start, strict=True))
        message = (
            f"{self.volume.name}: {len(bad)} voxels of the region {roi} are NaN or "
            f"infinite, the first at (z={z}, y={y}, x={x}); repair the file first"
        )
        raise NonFiniteError(message)


@dataclass(frozen=True)
class ArrayField:
    """Intensities that are scaled already, shape (C, Z, Y, X)."""

    array_czyx: NDArray[np.float32]

    @property
    def shape(self) -> Zyx:
        """The number of voxels along (z, y, x)."""
        z, y, x = self.array_czyx.shape[1:]
        return (z, y, x)

    def read(self, roi: Roi) -> NDArray[np.float32]:
        """Return intensities (C, z, y, x); borders are repeated beyond."""
        inside = nearest_inside(roi, self.shape)
        return repeat_border(
            self.array_czyx[(slice(None), *inside.slices)], roi, inside
        )


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
    """Return (C, *roi.shape) from the part that lies inside, its borders repeated."""
    pads = [(0, 0)]
    for axis in range(3):
        before = max(0, inside.start[axis] - roi.start[axis])
        length = inside.stop[axis] - inside.start[axis]
        pads.append((before, roi.stop[axis] - roi.start[axis] - before - length))
    if not np.any(pads):
        return array_czyx
    return np.pad(array_czyx, pads, mode="edge")

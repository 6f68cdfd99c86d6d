"""Read a region of labels or probabilities as classes: smoothed, decided, filled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.errors import AxisError, LabelError, NonFiniteError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.targets import (
    BORDER,
    CORE,
    LINKS,
    LONG_LINKS,
    link_probs,
)
from cellseg3d.objects.options import LengthScale, ObjectOptions

TRUNCATE = 3.0  # A Gaussian is cut off at three standard deviations.
Probable = Volume | ArrayLike | Sequence[Volume]


@dataclass(frozen=True)
class ObjectSource:
    """Class labels or probabilities in which objects are found, read by region.

    Parameters
    ----------
    channels : tuple of array
        One array (Z, Y, X), or one (K, Z, Y, X), or K of (Z, Y, X).
    probs : bool
        Whether voxels are probabilities and not class indices: floats in [0, 1], or
        integers that are divided by the largest value of their dtype.
    spacing : Spacing or None
        Voxel edges; None if unknown.
    name : str
        The file's name, for messages.
    options : ObjectOptions
        Threshold, smoothing and filling.
    """

    channels: tuple[ArrayLike, ...]
    probs: bool
    spacing: Spacing | None
    name: str
    options: ObjectOptions

    @property
    def shape(self) -> Zyx:
        """The shape of the volume (Z, Y, X), in voxels."""
        return zyx(self.channels[0].shape[-3:])

    @property
    def scale(self) -> LengthScale:
        """The options' lengths on this volume's voxels."""
        return LengthScale.of(self.spacing, self.options)

    def classes(self, roi: Roi) -> NDArray[Any]:
        """Return the class of each voxel of a region, smoothed and with holes filled.

        Returns
        -------
        ndarray of unsigned integers, shape of `roi`
            Class indices; 0 is background. Voxels that are not annotated (255 in labels
            of 8 bits) are background.
        """
        from cellseg3d.objects.holes import fill_holes  # noqa: PLC0415

        hole = self.scale.voxels(self.options.hole_um)
        if max(hole) < 1:
            return self._smoothed(roi)
        wide = roi.grow(tuple(size + 1 for size in hole)).clip(self.shape)
        filled = fill_holes(self._smoothed(wide), hole)
        return np.ascontiguousarray(filled[roi.within(wide).slices])

    def affinities(self, roi: Roi) -> NDArray[np.uint16]:
        """Return the links of each voxel of a region to its lower neighbours.

        Returns
        -------
        ndarray of uint16, shape (3, z, y, x)
            Links along z, y and x; 65535 means 1. They are whole numbers, so that their
            sums do not depend on the order of the blocks.
        """
        values = self._read(roi)
        if len(values) in (len(LINKS), len(LONG_LINKS)):
            values = link_probs(values)
        if len(values) != 3:
            message = (
                f"{self.name}: has {len(values)} channels; method 'affinity' needs "
                f"three (links along z, y and x), or the {len(LINKS)} or "
                f"{len(LONG_LINKS)} classes of a network trained with target "
                "'affinity' or 'long-affinity'"
            )
            raise AxisError(message)
        scaled: NDArray[np.uint16] = np.rint(np.clip(values, 0, 1) * 65535).astype("u2")
        return scaled

    def _smoothed(self, roi: Roi) -> NDArray[Any]:
        sigma = [self.options.smoothing_um / edge for edge in self.scale.edges]
        if max(sigma) == 0:
            values = self._read(roi)
            return self._decide(values) if self.probs else values[0]
        reach = [int(TRUNCATE * size + 0.5) for size in sigma]
        wide = roi.grow(reach).clip(self.shape)
        values = self._read(wide)
        inner = roi.within(wide).slices
        if self.probs:
            return self._decide(
                np.stack([_gaussian(channel, sigma)[inner] for channel in values])
            )
        return _smooth_labels(values[0], sigma, inner)

    def _decide(self, probs_kzyx: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the most probable class where the foreground reaches `threshold`."""
        if len(probs_kzyx) == 1:
            return np.asarray(probs_kzyx[0] >= self.options.threshold, np.uint8)
        foreground = 1 - probs_kzyx[0] >= self.options.threshold
        if self.options.method == "border-core" and len(probs_kzyx) == 3:
            core, border = probs_kzyx[1:]
            is_core = core >= self.options.core_threshold * (core + border)
            classes = np.where(is_core, np.uint8(CORE), np.uint8(BORDER))
        else:
            classes = probs_kzyx[1:].argmax(axis=0).astype(np.uint8) + np.uint8(1)
        return np.where(foreground, classes, np.uint8(0))

    def _read(self, roi: Roi) -> NDArray[Any]:
        """Return an array (K, z, y, x), of floats for probabilities, else unsigned."""
        first = self.channels[0]
        if len(first.shape) == 4:
            values = np.asarray(first[(slice(None), *roi.slices)])
        else:
            values = np.stack(
                [np.asarray(channel[roi.slices]) for channel in self.channels]
            )
        return self._probabilities(values) if self.probs else self._labels(values)

    def _probabilities(self, values: NDArray[Any]) -> NDArray[np.float32]:
        if values.dtype.kind in "ui":
            return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            message = (
                f"{self.name}: {count} probabilities are NaN or infinite; predict it "
                "again"
            )
            raise NonFiniteError(message)
        return values.astype(np.float32, copy=False)

    def _labels(self, values: NDArray[Any]) -> NDArray[Any]:
        if len(values) != 1:
            message = (
                f"{self.name}: has {len(values)} channels; labels have one. If these "
                "are probabilities, pass probs=True"
            )
            raise AxisError(message)
        if values.dtype == np.bool_:
            return values.astype(np.uint8)
        if values.size and values.min() < 0:
            least = values.min()
            message = f"{self.name}: the least label is {least}; expected 0 or more"
            raise LabelError(message)
        if values.dtype.itemsize == 1:
            return np.where(values == IGNORE, 0, values).astype(np.uint8)
        return values.astype(f"u{values.dtype.itemsize}", copy=False)


def open_source(
    source: Probable,
    spacing: Spacing | None,
    options: ObjectOptions,
    *,
    probs: bool | None = None,
) -> ObjectSource:
    """Return a source from a volume, an array, or one volume for each channel.

    Parameters
    ----------
    source : Volume, array or sequence of Volume
        Labels (integers) or probabilities (floats), (Z, Y, X) or (K, Z, Y, X).
    spacing : Spacing or None
        Voxel edges; the volume's own when None.
    options : ObjectOptions
        Threshold, smoothing and filling.
    probs : bool, optional
        Whether voxels are probabilities. When None, floats are and integers are not.

    Raises
    ------
    AxisError
        If the arrays have neither three nor four axes, or differ in shape.
    """
    name = "volume"
    if isinstance(source, Volume):
        source = (source,)
    if isinstance(source, list | tuple):
        channels = tuple(volume.array for volume in source)
        name = source[0].name
        spacing = spacing or source[0].spacing
    else:
        channels = (cast("ArrayLike", source),)
    shapes = {tuple(channel.shape) for channel in channels}
    if len(shapes) != 1 or len(next(iter(shapes))) not in (3, 4):
        message = (
            f"{name}: has shapes {sorted(shapes)}; expected axes (z, y, x) or (class, "
            "z, y, x), and the same shape for all channels"
        )
        raise AxisError(message)
    if probs is None:
        probs = np.dtype(channels[0].dtype).kind == "f"
    return ObjectSource(channels, probs, spacing, name, options)


def _gaussian(values: NDArray[Any], sigma: Sequence[float]) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415

    smooth: NDArray[np.float32] = gaussian_filter(
        values.astype(np.float32), sigma, truncate=TRUNCATE, mode="nearest"
    )
    return smooth


def _smooth_labels(
    labels: NDArray[Any], sigma: Sequence[float], inner: tuple[slice, ...]
) -> NDArray[Any]:
    """Return the class with the largest weight around each voxel; ties to the lower."""
    values = [value for value in np.unique(labels) if value]
    best = _gaussian(labels == 0, sigma)[inner]
    winner = np.zeros(best.shape, labels.dtype)
    for value in values:
        weight = _gaussian(labels == value, sigma)[inner]
        better = weight > best
        winner[better] = value
        best = np.where(better, weight, best)
    return winner

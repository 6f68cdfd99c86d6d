"""Change labelled volumes as another microscope would, to measure how scores change.

Amounts are given in units of the volume's contrast, which is the difference between its
percentiles 1 and 99, so they mean the same for any detector. A change depends on the
volume and a fixed seed only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.resampling import Resampled, nearest_on

SEED = 7
# "Missing slices" loses one of this many slices.
LOST_EVERY = 8
# The factor by which voxel edges in a slice grow in "larger voxels".
COARSER = 1.5
Values = NDArray[np.float32]
Change = Callable[[Values, float, np.random.Generator], Values]


@dataclass(frozen=True)
class Labelled:
    """A volume and its labels, both in memory.

    Parameters
    ----------
    image, label : Volume
        The image and its labels, of the same shape (Z, Y, X).
    """

    image: Volume
    label: Volume


def shifted(given: Labelled, *, inverts: bool) -> Mapping[str, Labelled]:
    """Return changed copies of a labelled volume, by the name of the change.

    Parameters
    ----------
    given : Labelled
    inverts : bool
        Whether to add an inverted copy, for modalities with dark and bright stains.
    """
    values = given.image.read().astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    contrast = float(high - low) or 1.0
    changes = {**_CHANGES, **({"inverted": _inverted} if inverts else {})}
    copies = {
        name: replace(given, image=_like(given.image, change(values, contrast, _rng())))
        for name, change in changes.items()
    }
    if len(values) > LOST_EVERY:
        lost = _missing_slices(values, contrast, _rng())
        copies["missing slices"] = replace(given, image=_like(given.image, lost))
    copies["larger voxels"] = _coarser(given)
    return copies


def middle(given: Labelled, voxels: int) -> Labelled:
    """Return the middle of a labelled volume, of at most about `voxels` voxels.

    It has at most 16 slices, which are cut to a square.
    """
    shape = given.image.shape
    depth = min(shape[0], 16)
    side = int(np.sqrt(voxels / depth))
    wanted = (depth, min(shape[1], side), min(shape[2], side))
    start = zyx(
        [(long - short) // 2 for long, short in zip(shape, wanted, strict=True)]
    )
    stop = zyx([low + size for low, size in zip(start, wanted, strict=True)])
    part = Roi(start, stop)
    return Labelled(
        *(replace(each, array=each.read(part)) for each in (given.image, given.label))
    )


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def _noise(values: Values, contrast: float, random: np.random.Generator) -> Values:
    noise = random.standard_normal(values.shape, np.float32)
    return values + np.float32(0.2 * contrast) * noise


def _blur(values: Values, contrast: float, random: np.random.Generator) -> Values:
    blurred: Values = ndimage.gaussian_filter(values, (0, 1.5, 1.5))
    return blurred


def _low_contrast(
    values: Values, contrast: float, random: np.random.Generator
) -> Values:
    """Return the volume with about 20 grey values and a little noise."""
    step = np.float32(contrast / 20)
    noise = random.standard_normal(values.shape, np.float32)
    grey: Values = np.rint(values / step + np.float32(0.5) * noise) * step
    return grey


def _gamma(values: Values, exponent: float) -> Values:
    low, high = np.percentile(values, (0.1, 99.9))
    span = max(float(high - low), 1e-12)
    share = np.clip((values - low) / span, 0, 1)
    curved: Values = (share**exponent * span + low).astype(np.float32)
    return curved


def _darker(values: Values, contrast: float, random: np.random.Generator) -> Values:
    return _gamma(values, 1.8)


def _brighter(values: Values, contrast: float, random: np.random.Generator) -> Values:
    return _gamma(values, 0.55)


def _stripes(values: Values, contrast: float, random: np.random.Generator) -> Values:
    """Return the volume with an offset for each row, as of an unsteady beam."""
    rows = random.standard_normal((*values.shape[:2], 1), np.float32)
    return values + np.float32(0.12 * contrast) * rows


def _shading(values: Values, contrast: float, random: np.random.Generator) -> Values:
    """Return the volume with an intensity that falls along both axes of a slice."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in values.shape[1:])
    return values + np.float32(0.2 * contrast) * (y[:, None] + x)


def _inverted(values: Values, contrast: float, random: np.random.Generator) -> Values:
    mirrored: Values = values.max() + values.min() - values
    return mirrored


def _missing_slices(
    values: Values, contrast: float, random: np.random.Generator
) -> Values:
    lost = values.copy()
    lost[LOST_EVERY // 2 :: LOST_EVERY] = values.mean()
    return lost


_CHANGES: Final[Mapping[str, Change]] = {
    "noise": _noise,
    "blur": _blur,
    "20 grey values": _low_contrast,
    "darker (gamma 1.8)": _darker,
    "brighter (gamma 0.55)": _brighter,
    "stripes": _stripes,
    "uneven light": _shading,
}


def _coarser(given: Labelled) -> Labelled:
    """Return image and labels on voxels that are larger within a slice."""
    z, y, x = given.image.shape
    shape: Zyx = (z, max(1, round(y / COARSER)), max(1, round(x / COARSER)))
    whole = Roi.whole(shape).slices
    spacing = given.image.spacing
    if spacing is not None:
        factors = [old / new for old, new in zip((z, y, x), shape, strict=True)]
        edges = [edge * k for edge, k in zip(spacing.zyx, factors, strict=True)]
        spacing = Spacing.of(edges)
    seen = Resampled(given.image.read(), shape)[whole]
    label = nearest_on(given.label.read(), shape)[whole]
    return Labelled(
        replace(given.image, array=seen, spacing=spacing, affine_mm=None),
        replace(given.label, array=label, spacing=spacing, affine_mm=None),
    )


def _like(image: Volume, values: Values) -> Volume:
    """Return the values in the dtype of the image, clipped to its range."""
    dtype: np.dtype[Any] = np.dtype(image.array.dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return replace(image, array=values.astype(dtype))

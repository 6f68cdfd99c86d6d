"""Scale intensities in the same way for training, validation and prediction."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError, NonFiniteError
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.volume import Volume

ScaleMode = Literal["percentile", "range", "zscore"]

# With this many voxels a percentile is right to about 0.1 % of the range.
SAMPLE_VOXELS = 2_000_000
# Number of sampled blocks along each axis. It is small, because each block is one read.
SAMPLE_BLOCKS = 6
# Scaled values are cut off here, because a single hot pixel would dominate a network's
# input.
CLIP = 3.0


@dataclass(frozen=True)
class IntensityScale:
    """How raw intensities become a network's input: ``(raw - offset) * factor``.

    Parameters
    ----------
    mode : {"percentile", "range", "zscore"}
        ``"percentile"`` sends the percentiles `lower` and `upper` of the volume to -1
        and 1; ``"range"`` does so with the values `lower` and `upper` themselves, the
        same for every volume (linear absorption coefficients); ``"zscore"`` gives
        mean 0 and standard deviation 1 and uses neither.
    lower, upper : float
        Percentiles in [0, 100], or values in the unit of the intensity.

    Raises
    ------
    ConfigError
        If the mode is unknown or `lower` is not below `upper`.
    """

    mode: ScaleMode = "percentile"
    lower: float = 0.5
    upper: float = 99.5

    def __post_init__(self) -> None:
        if self.mode not in get_args(ScaleMode):
            message = (
                f"intensity mode {self.mode!r}; expected one of "
                f"{', '.join(get_args(ScaleMode))}"
            )
            raise ConfigError(message)
        low, high = float(self.lower), float(self.upper)
        bounded = self.mode != "percentile" or (low >= 0 and high <= 100)
        if not (math.isfinite(low) and math.isfinite(high) and low < high and bounded):
            limit = " within 0 to 100" if self.mode == "percentile" else ""
            message = (
                f"intensity {self.mode}: lower is {self.lower}, upper is "
                f"{self.upper}; expected lower < upper{limit}"
            )
            raise ConfigError(message)

    @classmethod
    def parse(cls, values: "IntensityScale | dict[str, Any]") -> "IntensityScale":
        """Return a scale from a config's mapping; a scale is returned unchanged.

        Raises
        ------
        ConfigError
            If a key or a mode is unknown, or `lower` is not below `upper`.
        """
        if isinstance(values, IntensityScale):
            return values
        unknown = sorted(set(values) - {"mode", "lower", "upper"})
        if unknown:
            message = (
                f"intensity: unknown key {unknown[0]!r}; known: mode, lower, upper"
            )
            raise ConfigError(message)
        return cls(**values)

    def measure(self, volume: Volume) -> tuple[float, float]:
        """Return (offset, factor) of a volume, from a sample of its voxels.

        The sample is the same for an array and for a file that is read on demand, so
        that training and prediction scale equally. A constant volume gets factor 1.

        Parameters
        ----------
        volume : Volume
            Raw intensities.

        Raises
        ------
        NonFiniteError
            If the sample holds NaN or infinity.
        """
        if self.mode == "range":
            return _between(float(self.lower), float(self.upper))
        values = sample_voxels(volume)
        if not np.isfinite(values).all():
            bad = int(values.size - np.isfinite(values).sum())
            message = (
                f"{volume.name}: {bad} of {values.size} sampled voxels are NaN or "
                "infinite; repair the file first"
            )
            raise NonFiniteError(message)
        if self.mode == "zscore":
            spread = float(values.std(dtype=np.float64))
            return float(values.mean(dtype=np.float64)), 1 / spread if spread else 1.0
        low, high = np.percentile(values, [self.lower, self.upper])
        return _between(float(low), float(high))

    def apply(
        self, array: NDArray[Any], offset: float, factor: float
    ) -> NDArray[np.float32]:
        """Return the scaled values, cut off at -3 and 3, as float32.

        Each voxel is scaled by itself, so a crop gets the same values as the whole.

        Parameters
        ----------
        array : ndarray of a numeric dtype, any shape
            Raw intensities, in the unit of the volume.
        offset, factor : float
            What `measure` returned for the volume.
        """
        scaled: NDArray[np.float32]
        scaled = np.subtract(array, np.float32(offset), dtype=np.float32)
        scaled *= np.float32(factor)
        np.clip(scaled, -CLIP, CLIP, out=scaled)
        return scaled


def sample_voxels(volume: Volume) -> NDArray[Any]:
    """Return at most about 2e6 voxels from blocks spread evenly over the volume.

    Parameters
    ----------
    volume : Volume
        The volume; it is read block by block.

    Returns
    -------
    ndarray of the volume's dtype (float32 or wider for floats), shape (n,)
    """
    parts = [volume.read(roi).ravel() for roi in sample_rois(volume.shape)]
    values = np.concatenate(parts)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def sample_rois(shape: Sequence[int], limit: int = SAMPLE_VOXELS) -> Iterator[Roi]:
    """Yield blocks spread evenly over a volume; the whole volume when it is small.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume (Z, Y, X), in voxels.
    limit : int
        The most voxels that all blocks hold together. There are up to 216 blocks, each
        of at least one voxel.
    """
    whole = Roi.whole(shape)
    if whole.size <= limit:
        yield whole
        return
    intervals: dict[int, list[tuple[int, int]]] = {}
    share = limit / whole.size
    # Thin axes come first: if little can be left out along them, more is left out along
    # the longer axes.
    for left, axis in zip(
        (3, 2, 1), np.argsort(whole.shape, kind="stable"), strict=True
    ):
        size = whole.shape[axis]
        intervals[int(axis)] = _intervals(size, min(1.0, share ** (1 / left)))
        share *= size / sum(stop - start for start, stop in intervals[int(axis)])
    for box in itertools.product(*(intervals[axis] for axis in range(3))):
        begin, end = zip(*box, strict=True)
        yield Roi(zyx(begin), zyx(end))


def _intervals(size: int, share: float) -> list[tuple[int, int]]:
    """Return up to six equal, evenly spread intervals that cover `share` of an axis."""
    count = min(SAMPLE_BLOCKS, size)
    length = max(1, int(size / count * share))
    centres = ((2 * index + 1) * size / (2 * count) for index in range(count))
    starts = [min(max(0, int(mid - length / 2)), size - length) for mid in centres]
    return [(start, start + length) for start in starts]


def _between(low: float, high: float) -> tuple[float, float]:
    """Return the (offset, factor) that map `low` to -1 and `high` to 1."""
    return (low + high) / 2, 2 / (high - low) if high > low else 1.0

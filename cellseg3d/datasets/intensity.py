"""Scale intensities in the same way for training, validation and prediction."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError, NonFiniteError
from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.volume import Volume
from cellseg3d.core.words import refuse_unknown

ScaleMode = Literal["percentile", "range", "zscore"]
# One number for a volume of one channel, else one for each channel.
Amount = float | tuple[float, ...]

# With this many voxels a percentile is right to about 0.1 % of the range.
SAMPLE_VOXELS = 2_000_000
# Number of sampled blocks along each axis. It is small, because each block is one read.
SAMPLE_BLOCKS = 6
# Scaled values are cut off here, because a single hot pixel would dominate a network's
# input.
CLIP = 3.0
# A scaled volume needs at least LEAST_LEVELS different values, in steps of 1 / LEVELS.
LEAST_LEVELS, LEVELS = 16, 128
# If it has fewer, the percentiles are moved outwards: these are the shares of the usual
# tails that remain cut off, tried one after the other.
WIDER = (0.2, 0.02, 0.0)
# If the offset is this many times half of the range, float32 has fewer than 12 bits
# left for the values.
LARGE_OFFSET = 4096.0


@dataclass(frozen=True)
class Scaling:
    """How one volume is scaled: ``(raw - offset) * factor``.

    Parameters
    ----------
    offset, factor : float, or tuple of float with one number for each channel
    note : str
        A sentence about what is unusual; empty otherwise.
    """

    offset: Amount
    factor: Amount
    note: str = ""

    @property
    def by_channel(self) -> tuple[tuple[float, float], ...]:
        """The offset and the factor of each channel."""
        return tuple(zip(_each(self.offset), _each(self.factor), strict=True))

    @property
    def limits(self) -> tuple[float, ...]:
        """The raw intensities that become -1 and 1, one pair after another."""
        pairs = [(at - 1 / by, at + 1 / by) for at, by in self.by_channel]
        return tuple(itertools.chain.from_iterable(pairs))


def limits_in_words(limits: Sequence[float], link: str = "to") -> str:
    """Return limits such as ``0 to 200``, or ``0 to 200 | 5 to 90`` of two channels."""
    pairs = zip(limits[::2], limits[1::2], strict=True)
    return " | ".join(f"{low:.4g} {link} {high:.4g}" for low, high in pairs)


def _each(amount: Amount) -> tuple[float, ...]:
    return amount if isinstance(amount, tuple) else (amount,)


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
    clip : bool
        Whether scaled values are cut off at -3 and 3; networks that were trained by
        other programs may want all values.

    Raises
    ------
    ConfigError
        If the mode is unknown or `lower` is not below `upper`.
    """

    mode: ScaleMode = "percentile"
    lower: float = 0.5
    upper: float = 99.5
    clip: bool = True

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
        refuse_unknown(values, ("mode", "lower", "upper", "clip"), "intensity")
        return cls(**values)

    def measure(self, volume: Volume) -> tuple[Amount, Amount]:
        """Return (offset, factor) of a volume; see `scaling_of`."""
        found = self.scaling_of(volume)
        return found.offset, found.factor

    def scaling_of(self, volume: Volume) -> "Scaling":
        """Return how a volume is scaled, from a sample of its voxels.

        The sample is the same for an array and for a file that is read on demand, so
        that training and prediction scale equally. In an image that is almost empty,
        the percentiles would give most voxels the same value. Wider percentiles are
        used then, and the note says so. A constant volume gets factor 1. Each channel
        is scaled by itself.

        Parameters
        ----------
        volume : Volume
            Raw intensities.

        Raises
        ------
        NonFiniteError
            If the sample holds NaN or infinity.
        """
        if len(volume.array.shape) == 4:
            found = [self.scaling_of(each) for each in volume.each_channel()]
            notes = [
                f"{volume.channel_called(number)}: {each.note}"
                for number, each in enumerate(found)
                if each.note
            ]
            pairs = [each.by_channel[0] for each in found]
            offsets, factors = zip(*pairs, strict=True)
            return Scaling(tuple(offsets), tuple(factors), "; ".join(notes))
        if self.mode == "range":
            return Scaling(*_between(float(self.lower), float(self.upper)))
        values = sample_voxels(volume)
        if not np.isfinite(values).all():
            bad = int(values.size - np.isfinite(values).sum())
            message = (
                f"{volume.name}: {bad} of {values.size} sampled voxels are NaN or "
                "infinite; repair the file first"
            )
            raise NonFiniteError(message)
        if self.mode == "zscore":
            wide = values.astype(np.float64)
            spread = float(wide.std())
            return Scaling(float(wide.mean()), 1 / spread if spread else 1.0)
        if values.min() == values.max():
            return _of_extremes(volume, values)
        return self._percentiles(values)

    def _percentiles(self, values: NDArray[Any]) -> "Scaling":
        """Return the scaling between percentiles that leaves enough distinct values."""
        low, high = np.percentile(values, [self.lower, self.upper])
        usual = Scaling(*_between(float(low), float(high)))
        if high > low and not self._flattens(values, usual):
            return usual
        for widened in WIDER:
            lower = self.lower * widened
            upper = 100 - (100 - self.upper) * widened
            one, two = np.percentile(values, [lower, upper])
            found = Scaling(*_between(float(one), float(two)))
            if two > one and not (widened and self._flattens(values, found)):
                break
        note = (
            f"percentiles {self.lower:g} and {self.upper:g} ({low:g} and {high:g}) "
            f"would make its values almost equal, so it is scaled from {one:g} to "
            f"{two:g}, its percentiles {lower:g} and {upper:g}"
        )
        return Scaling(found.offset, found.factor, note)

    def _flattens(self, values: NDArray[Any], found: "Scaling") -> bool:
        """Return whether scaling leaves only few different values of many."""
        ((offset, factor),) = found.by_channel
        span = float(values.max()) - float(values.min())
        if 1 <= span * factor <= 2 * CLIP:
            return False  # Nothing is cut off, and the range is used well.
        scaled = self.apply(values, offset, factor).clip(-CLIP, CLIP)
        steps = np.rint((scaled + CLIP) * LEVELS).astype(np.int64)
        levels = int(np.count_nonzero(np.bincount(steps)))
        if levels >= LEAST_LEVELS:
            return False
        return levels < min(LEAST_LEVELS, len(np.unique(values)))

    def apply(
        self, array: NDArray[Any], offset: Amount, factor: Amount
    ) -> NDArray[np.float32]:
        """Return the scaled values as float32, cut off at -3 and 3 if `clip` is true.

        Each voxel is scaled by itself, so a crop gets the same values as the whole.

        Parameters
        ----------
        array : ndarray of a numeric dtype, any shape
            Raw intensities, in the unit of the volume. Its first axis is that of the
            channels if there is an offset for each.
        offset, factor : float, or tuple of float
            What `measure` returned for the volume.
        """
        scaled: NDArray[np.float32]
        if isinstance(offset, tuple) or isinstance(factor, tuple):
            scaled = np.empty(array.shape, np.float32)
            pairs = Scaling(offset, factor).by_channel
            for part, raw, (at, by) in zip(scaled, array, pairs, strict=True):
                part[...] = self.apply(raw, at, by)
            return scaled
        if _needs_double(array.dtype, offset, factor):
            wide = np.subtract(array, offset, dtype=np.float64)
            wide *= factor
            scaled = wide.astype(np.float32)
        else:
            scaled = np.subtract(array, np.float32(offset), dtype=np.float32)
            scaled *= np.float32(factor)
        if self.clip:
            np.clip(scaled, -CLIP, CLIP, out=scaled)
        return scaled


def sample_voxels(volume: Volume) -> NDArray[Any]:
    """Return at most about 2e6 voxels from blocks spread evenly over the volume.

    Parameters
    ----------
    volume : Volume
        The volume, of one channel; it is read block by block.

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


def _of_extremes(volume: Volume, values: NDArray[Any]) -> Scaling:
    """Return the scaling of a volume whose sample is constant, from its extremes."""
    low = high = float(values.flat[0])
    if values.size < Roi.whole(volume.shape).size:
        for roi in blocks(volume.shape, (1, *volume.shape[1:])):
            part = volume.read(roi)
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    if not low < high:
        return Scaling(low, 1.0, f"every voxel is {low:g}")
    note = (
        f"all of {values.size} sampled voxels are {values.flat[0]:g}, so it is scaled "
        f"from {low:g} to {high:g}, its extremes"
    )
    return Scaling(*_between(low, high), note)


def _needs_double(dtype: np.dtype[Any], offset: float, factor: float) -> bool:
    """Return whether the scaling needs float64 to keep values different.

    float32 holds integers up to 2^24 exactly. For larger ones, and if the offset is
    thousands of times as large as the range, the difference is computed in float64.
    """
    wide = dtype.itemsize > 4 or (dtype.kind in "iu" and dtype.itemsize == 4)
    return wide or abs(offset * factor) > LARGE_OFFSET


def _between(low: float, high: float) -> tuple[float, float]:
    """Return the (offset, factor) that map `low` to -1 and `high` to 1."""
    return (low + high) / 2, 2 / (high - low) if high > low else 1.0

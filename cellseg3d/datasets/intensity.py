"""Scale intensities in the same way for training, validation and prediction."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError, FormatError, NonFiniteError
from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.core.words import refuse_unknown
from cellseg3d.datasets.voxel_sample import sample_voxels

ScaleMode = Literal["percentile", "range", "zscore"]
# One number for a volume of one channel, else one for each channel.
Amount = float | tuple[float, ...]

# Scaled values are cut off here, because a single hot pixel would dominate a network's
# input.
CLIP = 3.0
# A scaled volume needs at least LEAST_LEVELS different values, in steps of 1 / LEVELS.
LEAST_LEVELS, LEVELS = 16, 128
# If it has fewer, the percentiles are moved outwards: these are the shares of the usual
# tails that remain cut off, tried one after the other.
WIDER = (0.2, 0.02, 0.0)
# A value at the end of the range that at least this share of the voxels has may be a
# filling, such as -9999 outside of the specimen.
FILLING = 0.01
# Integers beyond this are not exact in float64.
EXACT = 2**53
# float32 holds neither a factor beyond this nor its inverse.
LARGEST_FACTOR = 1e37
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
        used then, or those of the voxels without a filling such as -9999, and the note
        says so. A constant volume gets factor 1. Each channel is scaled by itself.

        Parameters
        ----------
        volume : Volume
            Raw intensities.

        Raises
        ------
        NonFiniteError
            If the sample holds NaN or infinity.
        FormatError
            If the values are integers beyond 2^53 that float64 cannot tell apart.
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
        values = sample_voxels(volume)
        _refuse_inexact(values, volume.name)
        if self.mode == "range" and not np.isfinite(values).all():
            # The numbers are known; the voxel is named where it is read.
            return self._fixed(values)
        if not np.isfinite(values).all():
            bad = int(values.size - np.isfinite(values).sum())
            message = (
                f"{volume.name}: {bad} of {values.size} sampled voxels are NaN or "
                "infinite; repair the file first"
            )
            raise NonFiniteError(message)
        if self.mode != "percentile":
            fixed = self._fixed(values)
            return replace(fixed, note=self._loss(values, fixed))
        if values.min() == values.max():
            return _of_extremes(volume, values)
        return self._percentiles(values)

    def _fixed(self, values: NDArray[Any]) -> "Scaling":
        """Return the scaling of the modes that do not look for percentiles."""
        if self.mode == "range":
            return Scaling(*_between(float(self.lower), float(self.upper)))
        wide = values.astype(np.float64)
        spread = float(wide.std())
        return Scaling(float(wide.mean()), 1 / spread if spread else 1.0)

    def _loss(self, values: NDArray[Any], found: "Scaling") -> str:
        """Return a sentence if scaling leaves only few different values."""
        if values.min() == values.max() or not self._flattens(values, found):
            return ""
        low, high = found.limits
        return (
            f"its values from {values.min():g} to {values.max():g} are scaled from "
            f"{low:g} to {high:g} (mode {self.mode}), which leaves fewer than "
            f"{LEAST_LEVELS} different values of {len(np.unique(values))}; it may "
            "have another unit than the images of the training"
        )

    def _percentiles(self, values: NDArray[Any]) -> "Scaling":
        """Return the scaling between percentiles that leaves enough distinct values."""
        low, high = _percentiles(values, self.lower, self.upper)
        usual = Scaling(*_between(low, high))
        if high > low and not self._flattens(values, usual):
            return usual
        said = (
            f"percentiles {self.lower:g} and {self.upper:g} ({low:g} and {high:g}) "
            "would make its values almost equal"
        )
        for widened in WIDER:
            lower = self.lower * widened
            upper = 100 - (100 - self.upper) * widened
            one, two = _percentiles(values, lower, upper)
            found = Scaling(*_between(one, two))
            if two > one and not self._flattens(values, found):
                note = (
                    f"{said}, so it is scaled from {one:g} to {two:g}, its percentiles "
                    f"{lower:g} and {upper:g}"
                )
                return Scaling(found.offset, found.factor, note)
        for filling, rest in _without_fillings(values):
            one, two = _percentiles(rest, self.lower, self.upper)
            inner = Scaling(*_between(one, two))
            if two > one and not self._flattens(rest, inner):
                note = (
                    f"{said}, since {(1 - rest.size / values.size):.0%} of its voxels "
                    f"are {' or '.join(f'{each:g}' for each in filling)}; it is scaled "
                    f"from {one:g} to {two:g}, as the other voxels are"
                )
                return Scaling(inner.offset, inner.factor, note)
        if high > low:
            return usual
        note = f"{said}, so it is scaled from {one:g} to {two:g}, its extremes"
        return Scaling(found.offset, found.factor, note)

    def _flattens(self, values: NDArray[Any], found: "Scaling") -> bool:
        """Return whether scaling leaves only few different values of many."""
        scaled = self.apply(values, found.offset, found.factor).clip(-CLIP, CLIP)
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
        if array.dtype.kind == "b":
            array = array.view(np.uint8)  # numpy subtracts nothing from bool
        if _needs_double(array.dtype, offset, factor):
            wide = np.subtract(array, offset, dtype=np.float64)
            wide *= factor
            with np.errstate(over="ignore"):  # what becomes infinite is cut off
                scaled = wide.astype(np.float32)
        else:
            scaled = np.subtract(array, np.float32(offset), dtype=np.float32)
            with np.errstate(over="ignore"):
                scaled *= np.float32(factor)
        if self.clip:
            np.clip(scaled, -CLIP, CLIP, out=scaled)
        return scaled


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
    return wide or abs(offset * factor) > LARGE_OFFSET or factor > LARGEST_FACTOR


def _percentiles(
    values: NDArray[Any], lower: float, upper: float
) -> tuple[float, float]:
    low, high = np.percentile(values, [lower, upper])
    return float(low), float(high)


def _without_fillings(
    values: NDArray[Any],
) -> Iterator[tuple[list[float], NDArray[Any]]]:
    """Yield the values without frequent extremes: without one, then without two.

    Yields
    ------
    filling : list of float
        The values that are left out.
    rest : ndarray, shape (n,)
        The other values.
    """
    filling: list[float] = []
    rest = values
    for _ in range(2):
        ends = {
            each: np.count_nonzero(rest == each) for each in (rest.min(), rest.max())
        }
        value = max(ends, key=lambda each: ends[each])
        if not FILLING * values.size <= ends[value] < rest.size:
            return
        filling = [*filling, float(value)]
        rest = rest[rest != value]
        yield filling, rest


def _refuse_inexact(values: NDArray[Any], name: str) -> None:
    """Raise an error if float64 makes different integers equal.

    Raises
    ------
    FormatError
        With their range.
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8:
        return
    low, high = int(values.min()), int(values.max())
    step = np.spacing(float(max(abs(low), abs(high))))
    if max(abs(low), abs(high)) > EXACT and 0 < high - low < LEAST_LEVELS * step:
        raise FormatError(
            f"{name}: its values lie between {low} and {high}, and numbers of that "
            "size are not told apart when they are scaled; subtract a constant from "
            "them and save them again"
        )


def _between(low: float, high: float) -> tuple[float, float]:
    """Return the (offset, factor) that map `low` to -1 and `high` to 1."""
    return (low + high) / 2, 2 / (high - low) if high > low else 1.0

"""Means with confidence intervals over volumes, never over slices.

The unit is the volume, or the specimen where several volumes come from one specimen.
With fewer than 10 units an interval says little, and a note beside the mean says so.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cellseg3d.metrics.overlap import mean_defined, median_defined

Floats = NDArray[np.float64]
RESAMPLES = 10_000
MIN_FOR_INTERVAL = 10


@dataclass(frozen=True)
class Summary:
    """The mean of a score over volumes, with its interval.

    Parameters
    ----------
    mean, sd, median : float
        Over the values that are not NaN; NaN when there are none (sd: fewer than two).
        The median has no interval, because a bootstrap covers it badly.
    low, high : float
        95 % bootstrap interval of the mean; NaN with fewer than two values.
    n, n_undefined : int
        Number of values in the mean, and of undefined values left out.
    note : str
        A warning for the reader, in one sentence; empty when none is needed.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int
    n_undefined: int
    note: str
    median: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dict(self.__dict__)


def summarise(
    values: Sequence[float], groups: Sequence[str] | None = None, seed: int = 0
) -> Summary:
    """Return the mean of a score with its interval, n and a warning when n is small.

    Parameters
    ----------
    values : sequence of float
        One value per volume. NaN means undefined; such values are counted.
    groups : sequence of str, optional
        The specimen of each volume. Volumes of one specimen are averaged first, so n
        counts specimens.
    seed : int
        Seed of the bootstrap.
    """
    units = group_means(values, groups)
    mean, n, undefined = mean_defined(units)
    defined = units[~np.isnan(units)]
    low, high = bootstrap_interval(defined, seed=seed)
    spread = n > 1 and bool(np.isfinite(defined).all())
    sd = float(defined.std(ddof=1)) if spread else float("nan")
    unit = "volumes" if groups is None or len(set(groups)) == len(groups) else "groups"
    middle = median_defined(units)
    return Summary(mean, sd, low, high, n, undefined, _note(n, unit), middle)


def group_means(values: Sequence[float], groups: Sequence[str] | None) -> Floats:
    """Return the mean of each group's defined values, in order of appearance."""
    array = np.asarray(values, np.float64)
    if groups is None:
        return array
    members: dict[str, list[float]] = {}
    for value, group in zip(array, groups, strict=True):
        members.setdefault(group, []).append(float(value))
    return np.array([mean_defined(each)[0] for each in members.values()])


def bootstrap_interval(
    values: Sequence[float] | Floats,
    statistic: Callable[[Floats], Floats] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the BCa bootstrap interval of the mean, or of another statistic.

    The interval is that of `scipy.stats.bootstrap`, which has none where a statistic is
    undefined for some resamples, as an effect size of few pairs is; here these
    resamples are left out.

    Parameters
    ----------
    values : sequence of float, shape (n,)
        Values without NaN.
    statistic : callable, optional
        Function from resamples of shape (m, n) to their statistics of shape (m,); the
        mean when None.
    resamples : int
        Number of times that n values are drawn with replacement.
    level : float
        Wanted coverage of the interval.
    seed : int
        Seed of the draws; the same seed gives the same interval.

    Returns
    -------
    tuple of float
        Lower and upper bound. NaN with fewer than two values or where one is infinite;
        both are the value itself where all values are equal.

    References
    ----------
    .. [1] Efron 1987, doi:10.1080/01621459.1987.10478410
    """
    array = np.asarray(values, np.float64)
    if len(array) < 2 or not np.isfinite(array).all():
        return float("nan"), float("nan")
    measure = statistic or _row_means
    observed = float(measure(array[None])[0])
    if np.ptp(array) == 0:
        return observed, observed
    drawn = np.random.default_rng(seed).integers(
        len(array), size=(resamples, len(array))
    )
    replicates = measure(array[drawn])
    replicates = np.sort(replicates[np.isfinite(replicates)])
    if not math.isfinite(observed) or not len(replicates):
        return float("nan"), float("nan")
    tails = _bca_levels(array, measure, observed, replicates, level)
    low, high = np.quantile(replicates, tails)
    return float(low), float(high)


def _bca_levels(
    array: Floats,
    measure: Callable[[Floats], Floats],
    observed: float,
    replicates: Floats,
    level: float,
) -> Floats:
    """Return the two quantiles to read, corrected for bias and skewness (BCa)."""
    below = (replicates < observed).mean() + (replicates == observed).mean() / 2
    half = 0.5 / len(replicates)
    bias = stats.norm.ppf(np.clip(below, half, 1 - half))
    index = np.arange(len(array))
    left_out = np.array([array[index != i] for i in index])
    jackknife = measure(left_out)
    spread = jackknife.mean() - jackknife
    squares = float((spread**2).sum())
    skew = float((spread**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
    tail = (1 - level) / 2
    z = bias + stats.norm.ppf([tail, 1 - tail])
    return np.asarray(stats.norm.cdf(bias + z / (1 - skew * z)), np.float64)


def _row_means(rows: Floats) -> Floats:
    return np.asarray(rows.mean(axis=1), np.float64)


def _note(n: int, unit: str) -> str:
    if n >= MIN_FOR_INTERVAL:
        return ""
    if n < 2:
        return f"n = {n} {unit}: too few for an interval; show the values"
    return (
        f"n = {n} {unit}: too few for a reliable confidence interval; show every value"
    )

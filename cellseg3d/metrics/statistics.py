"""Means with intervals and paired comparisons, over volumes and never over slices.

The unit is the volume, or the specimen where several volumes come from one. With
fewer than 10 an interval says little, with fewer than 6 pairs no two-sided test can
reach p < .05 (2 / 2^5 = .0625); both are said in a sentence rather than hidden.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cellseg3d.metrics.overlap import mean_defined

Floats = NDArray[np.float64]
RESAMPLES = 10_000
MIN_FOR_INTERVAL = 10
MIN_FOR_TEST = 6
# Up to 2^17 sign patterns are all looked at; beyond, as many are drawn.
_EXACT_PAIRS = 17


@dataclass(frozen=True)
class Summary:
    """The mean of a score over volumes.

    Parameters
    ----------
    mean, sd : float
        Over the defined values; NaN when there are none (sd: fewer than two).
    low, high : float
        95 % bootstrap interval of the mean; NaN with fewer than two values.
    n, n_undefined : int
        Values in the mean, and values that were undefined and are not.
    note : str
        What a reader must know, in one sentence; empty when nothing.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int
    n_undefined: int
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class PairedComparison:
    """Whether one method scores higher than another on the same volumes.

    Parameters
    ----------
    difference, low, high : float
        Mean of first minus second, and its 95 % bootstrap interval.
    effect, effect_low, effect_high : float
        Mean over the standard deviation of the differences (Cohen's d_z), and its 95 %
        bootstrap interval; NaN when the differences do not vary.
    p_permutation, p_wilcoxon : float
        Two-sided; NaN with fewer than two pairs.
    n, n_undefined : int
        Pairs compared, and pairs with an undefined score.
    note : str
        What a reader must know, in one sentence.
    """

    difference: float
    low: float
    high: float
    effect: float
    effect_low: float
    effect_high: float
    p_permutation: float
    p_wilcoxon: float
    n: int
    n_undefined: int
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dict(self.__dict__)


def summarise(
    values: Sequence[float], groups: Sequence[str] | None = None, seed: int = 0
) -> Summary:
    """Return the mean of a score with its interval, n, and what to beware of.

    Parameters
    ----------
    values : sequence of float
        One a volume; NaN is undefined and counted.
    groups : sequence of str, optional
        The specimen of each volume; volumes of one specimen are averaged first, so
        that n counts specimens.
    seed : int
        Of the bootstrap.
    """
    units = group_means(values, groups)
    mean, n, undefined = mean_defined(units)
    defined = units[~np.isnan(units)]
    low, high = bootstrap_interval(defined, seed=seed)
    spread = n > 1 and bool(np.isfinite(defined).all())
    sd = float(defined.std(ddof=1)) if spread else float("nan")
    unit = "volumes" if groups is None or len(set(groups)) == len(groups) else "groups"
    return Summary(mean, sd, low, high, n, undefined, _note(n, unit))


def group_means(values: Sequence[float], groups: Sequence[str] | None) -> Floats:
    """Return the mean of the defined values of each group, in order of first sight."""
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

    Parameters
    ----------
    values : sequence of float, shape (n,)
        Defined values.
    statistic : callable, optional
        From an array (m, n) of resamples to their statistic (m,); the mean when None.
    resamples : int
        How often to draw n values with replacement.
    level : float
        Coverage aimed at.
    seed : int
        Same seed, same interval.

    Returns
    -------
    tuple of float
        NaN with fewer than two values or where one is infinite; the value itself,
        twice, where all are equal.

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


def compare_paired(
    first: Sequence[float], second: Sequence[float], seed: int = 0
) -> PairedComparison:
    """Compare two methods on the same volumes (or specimens).

    Parameters
    ----------
    first, second : sequence of float
        One score a volume, in the same order; a pair with NaN is left out and counted.
    seed : int
        Of the bootstrap, and of the sign flips where there are too many to try all.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    defined = difference[~np.isnan(difference)]
    n, undefined = len(defined), int(np.isnan(difference).sum())
    mean, _, _ = mean_defined(defined)
    low, high = bootstrap_interval(defined, seed=seed)
    effect_low, effect_high = bootstrap_interval(defined, _effects, seed=seed)
    return PairedComparison(
        difference=mean,
        low=low,
        high=high,
        effect=float(_effects(defined[None])[0]) if n > 1 else float("nan"),
        effect_low=effect_low,
        effect_high=effect_high,
        p_permutation=sign_flip_p(defined, seed=seed),
        p_wilcoxon=wilcoxon_p(defined),
        n=n,
        n_undefined=undefined,
        note=_test_note(n),
    )


def sign_flip_p(differences: Sequence[float] | Floats, seed: int = 0) -> float:
    """Return the two-sided p of a paired sign-flip permutation test of the mean.

    Exact up to 17 pairs: all 2^n sign patterns; beyond, 131072 drawn ones, the
    observed one among them.

    Parameters
    ----------
    differences : sequence of float, shape (n,)
        Defined differences.
    seed : int
        Of the draw.

    Returns
    -------
    float
        Never below 2 / 2^n; NaN without two differences.
    """
    array = np.asarray(differences, np.float64)
    n = len(array)
    if n < 2 or not np.isfinite(array).all():
        return float("nan")
    observed = abs(float(array.sum()))
    if n <= _EXACT_PAIRS:
        patterns = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
    else:
        rng = np.random.default_rng(seed)
        patterns = rng.integers(2, size=(2**_EXACT_PAIRS, n))
        patterns[0] = 0
    sums = np.abs((1 - 2 * patterns) @ array)
    # Sums that differ in their last bits are equal.
    return float((sums >= observed - 1e-12 * np.abs(array).sum()).mean())


def wilcoxon_p(differences: Sequence[float] | Floats) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test; NaN without two pairs.

    Differences of 0 say nothing and are left out; with none left p is 1.
    """
    array = np.asarray(differences, np.float64)
    if len(array) < 2 or not np.isfinite(array).all():
        return float("nan")
    moved = array[array != 0]
    if not len(moved):
        return 1.0
    tied = len(np.unique(np.abs(moved))) < len(moved)
    method = "exact" if len(moved) <= 50 and not tied else "approx"
    return float(stats.wilcoxon(moved, method=method).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's step-down method.

    Parameters
    ----------
    p_values : sequence of float
        NaN stays NaN and is not counted.

    Returns
    -------
    list of float
        In the order given, each at most 1.

    References
    ----------
    .. [1] Holm 1979, Scand. J. Stat. 6:65-70
    """
    p = np.asarray(p_values, np.float64)
    corrected = p.copy()
    order = [int(i) for i in np.argsort(p, kind="stable") if not math.isnan(p[i])]
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(p[index])))
        corrected[index] = largest
    return [float(each) for each in corrected]


def compare_all(
    scores: Mapping[str, Sequence[float]], seed: int = 0
) -> dict[tuple[str, str], dict[str, Any]]:
    """Compare every two methods on the same volumes, Holm-corrected.

    Parameters
    ----------
    scores : mapping of str to sequence of float
        One score a volume for each method, in the same order.

    Returns
    -------
    dict
        For (first, second): the fields of `PairedComparison`, and ``p_holm``.
    """
    names = list(scores)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    found = {
        (a, b): compare_paired(scores[a], scores[b], seed).as_dict() for a, b in pairs
    }
    corrected = holm([found[pair]["p_permutation"] for pair in pairs])
    for pair, p in zip(pairs, corrected, strict=True):
        found[pair]["p_holm"] = p
    return found


def _bca_levels(
    array: Floats,
    measure: Callable[[Floats], Floats],
    observed: float,
    replicates: Floats,
    level: float,
) -> Floats:
    """Return the two quantiles that bias and skewness turn the tails into."""
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


def _effects(rows: Floats) -> Floats:
    """Return mean over standard deviation of each row; NaN for rows of one value."""
    sd = rows.std(axis=1, ddof=1)
    safe = np.where(sd > 0, sd, 1.0)
    return np.where(sd > 0, rows.mean(axis=1) / safe, np.nan)


def _note(n: int, unit: str) -> str:
    if n >= MIN_FOR_INTERVAL:
        return ""
    if n < 2:
        return f"n = {n} {unit}: no interval can be had; show the values"
    return (
        f"n = {n} {unit}: too few for a confidence interval to be trusted; show every "
        "value"
    )


def _test_note(n: int) -> str:
    if n < MIN_FOR_TEST:
        least = f"{2 / 2**n:.4g}" if n else "1"
        return (
            f"n = {n} pairs cannot reach p < .05 (the least possible p is {least}); "
            "no significance can be had"
        )
    if n < MIN_FOR_INTERVAL:
        return f"n = {n} pairs: the interval is rough; show every pair"
    return ""

"""Compare two methods on the same volumes: which one scores higher, and how surely.

With fewer than 6 pairs no two-sided test can reach p < .05 (2 / 2^5 = .0625). The
result then says so in a sentence, and never says "not significant".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cellseg3d.metrics.overlap import mean_defined
from cellseg3d.metrics.statistics import MIN_FOR_INTERVAL, bootstrap_interval

Floats = NDArray[np.float64]
MIN_FOR_TEST = 6
# With up to 17 pairs all 2^17 sign patterns are tried; with more, 2^17 are drawn.
_EXACT_PAIRS = 17


@dataclass(frozen=True)
class PairedComparison:
    """The comparison of two methods on the same volumes.

    Parameters
    ----------
    difference, low, high : float
        Mean of first minus second, and its 95 % bootstrap interval.
    effect, effect_low, effect_high : float
        Mean divided by the standard deviation of the differences (Cohen's d_z), and its
        95 % bootstrap interval; NaN when the differences do not vary.
    p_permutation, p_wilcoxon : float
        Two-sided p values; NaN with fewer than two pairs.
    n, n_undefined : int
        Number of pairs compared, and of pairs left out because a score is undefined.
    note : str
        A warning for the reader, in one sentence; empty when none is needed.
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


def compare_paired(
    first: Sequence[float], second: Sequence[float], seed: int = 0
) -> PairedComparison:
    """Compare two methods on the same volumes (or specimens).

    Parameters
    ----------
    first, second : sequence of float
        One score per volume, in the same order. A pair with NaN is left out and
        counted.
    seed : int
        Seed of the bootstrap, and of the random sign flips when there are too many
        patterns to try all.
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

    The test is exact up to 17 pairs, where it tries all 2^n sign patterns. With more
    pairs it draws 131072 patterns, and the observed one is among them. The exact p is
    that of `scipy.stats.permutation_test`, which takes ten times as long.

    Parameters
    ----------
    differences : sequence of float, shape (n,)
        The differences, without NaN.
    seed : int
        Seed of the drawn patterns.

    Returns
    -------
    float
        At least 2 / 2^n; NaN with fewer than two differences.
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
    # Sums that differ only by rounding count as equal.
    return float((sums >= observed - 1e-12 * np.abs(array).sum()).mean())


def wilcoxon_p(differences: Sequence[float] | Floats) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test; NaN without two pairs.

    Differences of 0 are left out, since they have no sign; p is 1 when none is left.
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
    """Return p values that Holm's method corrected for the number of tests.

    Parameters
    ----------
    p_values : sequence of float
        The p values. NaN stays NaN and does not count as a test.

    Returns
    -------
    list of float
        Corrected p values in the given order, each at most 1.

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


def _effects(rows: Floats) -> Floats:
    """Return mean over standard deviation of each row; NaN where a row is constant."""
    if rows.shape[1] < 2:
        return np.full(len(rows), np.nan)
    sd = rows.std(axis=1, ddof=1)
    safe = np.where(sd > 0, sd, 1.0)
    return np.where(sd > 0, rows.mean(axis=1) / safe, np.nan)


def _test_note(n: int) -> str:
    if n < MIN_FOR_TEST:
        least = f"{2 / 2**n:.4g}" if n else "1"
        return (
            f"n = {n} pairs cannot reach p < .05 (the least possible p is {least}); "
            "so no difference can be significant"
        )
    if n < MIN_FOR_INTERVAL:
        return f"n = {n} pairs: the interval is not reliable; show every pair"
    return ""

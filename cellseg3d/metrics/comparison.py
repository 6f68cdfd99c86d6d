"""Which of two methods scores higher on the same volumes, and how surely.

With fewer than 6 pairs no two-sided test can reach p < .05 (2 / 2^5 = .0625); that is
said in a sentence, never as "not significant".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cellseg3d.metrics.overlap import mean_defined
from cellseg3d.metrics.statistics import MIN_FOR_INTERVAL, bootstrap_interval

Floats = NDArray[np.float64]
MIN_FOR_TEST = 6
# Up to 2^17 sign patterns are all looked at; beyond, as many are drawn.
_EXACT_PAIRS = 17


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


def _effects(rows: Floats) -> Floats:
    """Return mean over standard deviation of each row; NaN for rows of one value."""
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
            "no significance can be had"
        )
    if n < MIN_FOR_INTERVAL:
        return f"n = {n} pairs: the interval is rough; show every pair"
    return ""

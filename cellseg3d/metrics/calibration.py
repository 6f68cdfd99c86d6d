"""Scores of probabilities: ROC curve, best threshold, calibration.

Choose a threshold on validation volumes. A score on the volumes that the threshold was
chosen on is too high.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import LabelError
from cellseg3d.core.ignore import IGNORE

Floats = NDArray[np.float64]
Criterion = Literal["dice", "youden"]
# The smallest probability that a logarithm is taken of, since float32 cannot hold
# 1 - p more finely.
_LEAST = 2.0**-24


@dataclass(frozen=True)
class RocCurve:
    """The true and false positive voxels at every threshold, from strict to lenient.

    Parameters
    ----------
    thresholds : ndarray of float64, shape (n,)
        Falling thresholds. A voxel is foreground when its probability is at least the
        threshold. The first threshold is infinite, so nothing is foreground.
    true_positives, false_positives : ndarray of int64, shape (n,)
        Number of voxels at each threshold, rising.
    """

    thresholds: Floats
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]

    @property
    def true_positive_rate(self) -> Floats:
        """Share of the true voxels found; NaN when there are none."""
        return _rate(self.true_positives)

    @property
    def false_positive_rate(self) -> Floats:
        """Share of the other voxels taken for true; NaN when there are none."""
        return _rate(self.false_positives)

    @property
    def precision(self) -> Floats:
        """Share of the found voxels that are true; NaN where none is found."""
        found = self.true_positives + self.false_positives
        return np.where(found > 0, self.true_positives / np.maximum(found, 1), np.nan)

    @property
    def auc(self) -> float:
        """The area under the curve; NaN unless both kinds of voxel occur."""
        height = self.true_positive_rate
        steps = np.diff(self.false_positive_rate)
        return float((steps * (height[1:] + height[:-1]) / 2).sum())

    @property
    def dice(self) -> Floats:
        """Dice at each threshold; NaN when there are no true voxels."""
        positives = self.true_positives[-1]
        total = self.true_positives + self.false_positives + positives
        scores = 2 * self.true_positives / np.maximum(total, 1)
        return scores if positives else np.full(len(scores), np.nan)

    def choose(self, criterion: Criterion = "dice") -> float:
        """Return the threshold that is best by a criterion.

        Parameters
        ----------
        criterion : {"dice", "youden"}
            The highest Dice, or the highest difference of the two rates (Youden
            1950, doi:10.1002/1097-0142(1950)3:1<32::aid-cncr2820030106>3.0.co;2-3).

        Returns
        -------
        float
            The highest of equally good thresholds; NaN when no threshold is defined.
        """
        if criterion == "dice":
            quality = self.dice
        else:
            quality = self.true_positive_rate - self.false_positive_rate
        if np.isnan(quality).all():
            return float("nan")
        return float(self.thresholds[int(np.nanargmax(quality))])


@dataclass(frozen=True)
class Reliability:
    """How often a voxel is right, for each range of its stated probability.

    Parameters
    ----------
    edges : ndarray of float64, shape (bins + 1,)
        Borders of bins of equal width. Each bin holds its lower border; the last bin
        also holds 1.
    confidence, frequency : ndarray of float64, shape (bins,)
        Mean probability in each bin, and the share of its voxels that are right; NaN in
        an empty bin.
    count : ndarray of int64, shape (bins,)
        Number of voxels in each bin.
    """

    edges: Floats
    confidence: Floats
    frequency: Floats
    count: NDArray[np.int64]

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean gap, weighted by voxels."""
        filled = self.count > 0
        if not filled.any():
            return float("nan")
        gap = np.abs(self.confidence[filled] - self.frequency[filled])
        return float(np.average(gap, weights=self.count[filled]))


def roc_curve(
    probs: NDArray[Any], truth: NDArray[Any], value: int | None = None
) -> RocCurve:
    """Return the ROC curve of the probability of one class.

    Parameters
    ----------
    probs : ndarray of float, any shape, in [0, 1]
        Probability of the class.
    truth : ndarray of integers or bool, of the same shape
        Class labels; 255 is not annotated.
    value : int, optional
        The class; every value above 0 when None.

    Raises
    ------
    LabelError
        If the shapes differ.
    """
    p, is_true = _flat(probs, truth, value)
    order = np.argsort(-p, kind="stable")
    ranked, positive = p[order], is_true[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))[: len(ranked)]
    return RocCurve(
        np.concatenate([[np.inf], ranked[last].astype(np.float64)]),
        np.concatenate([[0], np.cumsum(positive)[last]]).astype(np.int64),
        np.concatenate([[0], np.cumsum(~positive)[last]]).astype(np.int64),
    )


def reliability(
    probs: NDArray[Any], truth: NDArray[Any], value: int | None = None, bins: int = 10
) -> Reliability:
    """Return how often the class is true, for each range of its probability.

    Parameters
    ----------
    probs, truth, value
        As for `roc_curve`.
    bins : int
        Number of bins of equal width between 0 and 1.

    References
    ----------
    .. [1] Guo et al. 2017, arXiv:1706.04599
    """
    return binned(*_flat(probs, truth, value), bins)


def brier_score(
    probs: NDArray[Any], truth: NDArray[Any], value: int | None = None
) -> float:
    """Return the mean squared error of the probability of one class, in [0, 1]."""
    p, is_true = _flat(probs, truth, value)
    return float(((p - is_true) ** 2).mean()) if len(p) else float("nan")


def negative_log_likelihood(
    probs: NDArray[Any], truth: NDArray[Any], value: int | None = None
) -> float:
    """Return the mean negative logarithm of the probability of the truth, in nats."""
    p, is_true = _flat(probs, truth, value)
    if not len(p):
        return float("nan")
    given = np.where(is_true, p, 1 - p)
    return float(-np.log(np.maximum(given, _LEAST)).mean())


def binned(p: Floats, right: NDArray[np.bool_], bins: int) -> Reliability:
    """Return how often something is right, for each range of its probability.

    Parameters
    ----------
    p : ndarray of float64, shape (n,), in [0, 1]
        The stated probabilities.
    right : ndarray of bool, shape (n,)
        Whether each came true.
    bins : int
        Number of bins of equal width between 0 and 1.
    """
    # p = 1 belongs to the last bin.
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = np.where(count > 0, count, 1)
    empty = np.where(count > 0, 0.0, np.nan)
    return Reliability(
        np.linspace(0, 1, bins + 1),
        np.bincount(index, p, bins) / filled + empty,
        np.bincount(index, right, bins) / filled + empty,
        count,
    )


def _flat(
    probs: NDArray[Any], truth: NDArray[Any], value: int | None
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return probability and truth of the annotated voxels, shape (n,)."""
    if probs.shape != truth.shape:
        message = f"probabilities {probs.shape} do not fit labels {truth.shape}"
        raise LabelError(message)
    annotated = truth != IGNORE
    labels = truth[annotated]
    is_true = labels > 0 if value is None else labels == value
    return probs[annotated].astype(np.float64), is_true


def _rate(counts: NDArray[np.int64]) -> Floats:
    whole = counts[-1]
    return counts / whole if whole else np.full(len(counts), np.nan)

"""Voxel scores of a segmentation: accuracy, Dice, Jaccard, precision and recall.

These rules hold for every score:

- A voxel that is not annotated (255 in the truth) is not counted.
- A class that is in neither the truth nor the prediction has the score NaN. A mean
  leaves NaN out and counts it in ``n_undefined``.
- A class that was missed completely, or predicted where it does not occur, has a Dice,
  Jaccard and precision of 0, not NaN. The recall of a class that the truth does not
  hold is NaN, because there was nothing to find.

Source of the rules: Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.ignore import IGNORE
from cellseg3d.metrics.contingency import (
    Contingency,
    Labels,
    count_slices,
    total,
)

Floats = NDArray[np.float64]
SCORES = ("dice", "jaccard", "precision", "recall", "accuracy")


@dataclass(frozen=True)
class OverlapCounts:
    """Numbers of voxels where truth and prediction agree or differ about one class.

    Parameters
    ----------
    tp, fp, fn, tn : ndarray of int64, any one shape
        True positive, false positive, false negative and true negative voxels. Scores
        have the same shape.
    """

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    tn: NDArray[np.int64]

    @property
    def dice(self) -> Floats:
        """``2 tp / (2 tp + fp + fn)``; NaN where the class is in neither."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def jaccard(self) -> Floats:
        """``tp / (tp + fp + fn)``; NaN where the class is in neither."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> Floats:
        """``tp / (tp + fp)``; 0 for a miss, NaN where the class is in neither."""
        present = self.tp + self.fp + self.fn > 0
        return np.where(present, _ratio(self.tp, self.tp + self.fp, empty=0), np.nan)

    @property
    def recall(self) -> Floats:
        """``tp / (tp + fn)``; NaN where the truth does not hold the class."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def accuracy(self) -> Floats:
        """``(tp + tn)`` over all annotated voxels; NaN where there are none."""
        return _ratio(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn)

    def scores(self) -> dict[str, Floats]:
        """Return every score by name."""
        return {name: getattr(self, name) for name in SCORES}


def dice(
    prediction: ArrayLike, truth: ArrayLike, value: int | Sequence[int] | None = None
) -> float:
    """Return the Dice score of one class, or of everything above 0.

    Parameters
    ----------
    prediction, truth : arrays or lazy arrays of integers or bool, shape (Z, Y, X)
        Class labels; voxels of true value 255 are not counted.
    value : int or sequence of int, optional
        The class; several values count as one class. When None, every value above 0.

    Returns
    -------
    float
        In [0, 1]; NaN if the class is in neither.

    References
    ----------
    .. [1] Dice 1945, doi:10.2307/1932409
    """
    return float(overlap_counts(prediction, truth, value).dice)


def jaccard(
    prediction: ArrayLike, truth: ArrayLike, value: int | Sequence[int] | None = None
) -> float:
    """Return intersection over union of one class; of all values above 0 when None."""
    return float(overlap_counts(prediction, truth, value).jaccard)


def precision(
    prediction: ArrayLike, truth: ArrayLike, value: int | Sequence[int] | None = None
) -> float:
    """Return the share of the predicted voxels of a class that are right."""
    return float(overlap_counts(prediction, truth, value).precision)


def recall(
    prediction: ArrayLike, truth: ArrayLike, value: int | Sequence[int] | None = None
) -> float:
    """Return the share of the true voxels of a class that were found."""
    return float(overlap_counts(prediction, truth, value).recall)


def accuracy(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Return the share of annotated voxels with the right class, background included.

    Returns
    -------
    float
        In [0, 1]; NaN if nothing is annotated.
    """
    return voxel_accuracy(total(count_slices(prediction, truth)))


def voxel_accuracy(table: Contingency, not_annotated: int | None = IGNORE) -> float:
    """Return the share of voxels whose two values agree, from a table of counts."""
    annotated = table.without_truth(not_annotated)
    agree = annotated.select(annotated.predicted == annotated.true)
    return float(_ratio(np.int64(agree.voxels), np.int64(annotated.voxels)))


def overlap_counts(
    prediction: ArrayLike, truth: ArrayLike, value: int | Sequence[int] | None = None
) -> OverlapCounts:
    """Count where truth and prediction agree about one class in a volume.

    Parameters
    ----------
    prediction, truth : arrays or lazy arrays of integers or bool, shape (Z, Y, X)
        Class labels; voxels of true value 255 are not counted. The arrays may be 2D.
    value : int or sequence of int, optional
        The class; several values count as one class. When None, every value above 0.

    Raises
    ------
    LabelError
        If the shapes differ or the values are not integers.
    """
    return class_counts([total(count_slices(prediction, truth))], value)[0]


def class_counts(
    tables: Sequence[Contingency],
    value: int | Sequence[int] | None = None,
    not_annotated: int | None = IGNORE,
) -> "CountsList":
    """Return how truth and prediction agree about one class, for each table of counts.

    Parameters
    ----------
    tables : sequence of Contingency
        One table per slice, or one per volume.
    value : int or sequence of int, optional
        The class; several values count as one class. When None, every value above 0.
    not_annotated : int or None
        The true value that is not counted; None counts every voxel (for object ids).

    Returns
    -------
    CountsList
        Counts of shape (n,). An index returns those of one table, `added` their sum.
    """
    rows = np.zeros((len(tables), 4), np.int64)
    for row, table in zip(rows, tables, strict=True):
        annotated = table.without_truth(not_annotated)
        inside = _is(annotated.predicted, value) + 2 * _is(annotated.true, value)
        np.add.at(row, inside, annotated.count)
    return CountsList(rows)


@dataclass(frozen=True)
class CountsList:
    """Counts of agreement about one class in several tables.

    Parameters
    ----------
    rows : ndarray of int64, shape (n, 4)
        Numbers of tn, fp, fn and tp voxels of each table.
    """

    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> OverlapCounts:  # noqa: ANN401 - as numpy's
        tn, fp, fn, tp = np.moveaxis(self.rows[index], -1, 0)
        return OverlapCounts(tp=tp, fp=fp, fn=fn, tn=tn)

    @property
    def added(self) -> OverlapCounts:
        """The counts of all tables together."""
        tn, fp, fn, tp = self.rows.sum(0)
        return OverlapCounts(tp=tp, fp=fp, fn=fn, tn=tn)

    @property
    def each(self) -> OverlapCounts:
        """The counts of each table, shape (n,)."""
        return self[:]


def class_scores(
    tables: Sequence[Contingency],
    value: int | Sequence[int] | None = None,
    not_annotated: int | None = IGNORE,
) -> dict[str, float | int]:
    """Return the scores of one class in a volume, from the tables of its slices.

    Parameters
    ----------
    tables : sequence of Contingency
        One table per slice, as `contingency.count_slices` returns them.
    value, not_annotated
        As for `class_counts`.

    Returns
    -------
    dict
        Every score over the volume; the numbers of voxels ``tp``, ``fp``, ``fn`` and
        ``tn``; ``dice_slice_median`` and ``jaccard_slice_median`` over the ``n_slices``
        slices in which truth or prediction holds the class (NaN when none does).
    """
    counted = class_counts(tables, value, not_annotated)
    volume, slices = counted.added, counted.each
    result: dict[str, float | int] = {
        name: float(score) for name, score in volume.scores().items()
    }
    for name in ("tp", "fp", "fn", "tn"):
        result[name] = int(getattr(volume, name))
    for name in ("dice", "jaccard"):
        result[f"{name}_slice_median"] = median_defined(getattr(slices, name))
    result["n_slices"] = int(np.isfinite(slices.dice).sum())
    return result


def mean_defined(values: Sequence[float] | Floats) -> tuple[float, int, int]:
    """Return the mean of the values without NaN, their number, and how many are NaN.

    An infinite value (the distance of a missed surface) counts, and makes the mean
    infinite.
    """
    array = np.asarray(values, np.float64)
    defined = array[~np.isnan(array)]
    mean = float(defined.mean()) if len(defined) else float("nan")
    return mean, len(defined), len(array) - len(defined)


def median_defined(values: Sequence[float] | Floats) -> float:
    """Return the median of the values that are not NaN; NaN when none is left."""
    array = np.asarray(values, np.float64)
    defined = array[~np.isnan(array)]
    return float(np.median(defined)) if len(defined) else float("nan")


def _is(values: Labels, value: int | Sequence[int] | None) -> NDArray[np.int64]:
    inside = values > 0 if value is None else np.isin(values, value)
    return inside.astype(np.int64)


def _ratio(
    part: NDArray[np.int64] | np.int64,
    whole: NDArray[np.int64] | np.int64,
    empty: float = np.nan,
) -> Floats:
    """Return ``part / whole``, or `empty` where the whole is 0."""
    divided = np.asarray(part) / np.maximum(whole, 1)
    return np.where(np.asarray(whole) > 0, divided, empty)

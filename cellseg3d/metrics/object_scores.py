"""Scores that compare objects with objects, from one sparse table of shared voxels.

Definitions:

- A predicted and a true object match when their intersection over union is *greater*
  than the threshold, by default .5. Above .5 no object can have two partners [1]_.
- ``ap`` at a threshold is tp / (tp + fp + fn), as in the 2018 Data Science Bowl and in
  StarDist; ``ap_mean`` is its mean over IoU .5, .55, ... .95 [2]_.
- PQ = SQ * RQ: the mean IoU of the matches times their F1 [1]_.
- A *split* is a true object that holds more than half of each of two or more predicted
  objects. A *merge* is a predicted object that holds more than half of each of two or
  more true objects. A *miss* is a true object of which at most half is covered by
  predicted objects.
- Without objects on either side every score is NaN; with objects on one side only, 0.

References
----------
.. [1] Kirillov et al. 2019, arXiv:1801.00868
.. [2] Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike
from cellseg3d.metrics.contingency import Contingency, Ids, count_slices, total

Floats = NDArray[np.float64]
AP_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
_HALF = 0.5


@dataclass(frozen=True)
class ObjectMatch:
    """The objects of two volumes, and the number of voxels that pairs of them share.

    Parameters
    ----------
    predicted_ids, true_ids : ndarray of int64, shape (p,), (t,)
        Sorted ids, without 0.
    predicted_sizes, true_sizes : ndarray of int64, shape (p,), (t,)
        Number of voxels of each object.
    predicted, true : ndarray of int64, shape (n,)
        Positions in `predicted_ids` and `true_ids` of each pair that shares a voxel.
    shared : ndarray of int64, shape (n,)
        Number of voxels that the pair shares.
    """

    predicted_ids: Ids
    true_ids: Ids
    predicted_sizes: Ids
    true_sizes: Ids
    predicted: Ids
    true: Ids
    shared: Ids

    @classmethod
    def of(cls, table: Contingency, not_annotated: int | None = None) -> "ObjectMatch":
        """Return the objects of a table of counts; value 0 is background.

        Parameters
        ----------
        table : Contingency
            Predicted and true ids of a whole volume.
        not_annotated : int, optional
            A true value whose voxels are not counted. The default None treats every
            value above 0 as an object, since in a volume of ids 255 is an object.
        """
        annotated = table.without_truth(not_annotated)
        predicted_ids, predicted_sizes = _objects(annotated.predicted_sizes())
        true_ids, true_sizes = _objects(annotated.true_sizes())
        both = annotated.select((annotated.predicted != 0) & (annotated.true != 0))
        return cls(
            predicted_ids,
            true_ids,
            predicted_sizes,
            true_sizes,
            np.searchsorted(predicted_ids, both.predicted),
            np.searchsorted(true_ids, both.true),
            both.count,
        )

    @property
    def undefined(self) -> bool:
        """Whether there is no object on either side."""
        return not len(self.predicted_ids) and not len(self.true_ids)

    @property
    def union(self) -> Ids:
        """Voxels of each pair's union, shape (n,)."""
        sizes = self.predicted_sizes[self.predicted] + self.true_sizes[self.true]
        return sizes - self.shared

    @property
    def iou(self) -> Floats:
        """Intersection over union of each pair, shape (n,)."""
        return np.asarray(self.shared / self.union, np.float64)

    def matched(self, threshold: float = _HALF) -> NDArray[np.bool_]:
        """Return whether each pair has an IoU above `threshold`, in exact arithmetic.

        Parameters
        ----------
        threshold : float
            IoU of at least .5, so that no object can have two partners.
        """
        if threshold < _HALF:
            message = f"IoU threshold {threshold} is below .5; matches are ambiguous"
            raise ValueError(message)
        exact = Fraction(str(threshold)).limit_denominator(1000)
        return self.shared * exact.denominator > self.union * exact.numerator


def _objects(sizes: tuple[Ids, Ids]) -> tuple[Ids, Ids]:
    ids, voxels = sizes
    return ids[ids != 0], voxels[ids != 0]


def match_objects(
    prediction: ArrayLike, truth: ArrayLike, not_annotated: int | None = None
) -> ObjectMatch:
    """Find the objects of two volumes and the voxels they share, block by block.

    Parameters
    ----------
    prediction, truth : arrays or lazy arrays of integers, shape (Z, Y, X)
        Object ids; 0 is background. Objects are compared by place; the ids may differ.
    not_annotated : int, optional
        A true value whose voxels are not counted.

    Raises
    ------
    LabelError
        If the shapes differ or the values are not integers.
    """
    return ObjectMatch.of(total(count_slices(prediction, truth)), not_annotated)


def object_scores(
    match: ObjectMatch, threshold: float = _HALF
) -> dict[str, float | int]:
    """Return object scores at one IoU threshold, and ``ap_mean`` over ten thresholds.

    Returns
    -------
    dict
        ``n_true``, ``n_predicted``, ``tp``, ``fp``, ``fn``; ``object_precision``,
        ``object_recall``, ``object_f1``, ``ap``, ``ap_mean``, ``sq``, ``rq``, ``pq``
        in [0, 1]; ``splits``, ``merges``, ``misses``; NaN where there is no object.
    """
    counts = _counts(match, threshold)
    tp, fp, fn = counts["tp"], counts["fp"], counts["fn"]
    iou_sum = float(match.iou[match.matched(threshold)].sum())
    sq = iou_sum / tp if tp else _none(match)
    rq = _share(2 * tp, 2 * tp + fp + fn)
    scores: dict[str, float | int] = {
        "n_true": len(match.true_ids),
        "n_predicted": len(match.predicted_ids),
        **counts,
        "object_precision": _share(tp, tp + fp) if tp + fp else _none(match),
        "object_recall": _share(tp, tp + fn),
        "object_f1": rq,
        "ap": _share(tp, tp + fp + fn),
        "ap_mean": float(np.mean([ap for _, ap in average_precision(match)])),
        "sq": sq,
        "rq": rq,
        "pq": sq * rq,
    }
    return scores | mistakes(match)


def average_precision(
    match: ObjectMatch, thresholds: Sequence[float] = AP_THRESHOLDS
) -> list[tuple[float, float]]:
    """Return (threshold, tp / (tp + fp + fn)) for each IoU threshold."""
    pairs = []
    for threshold in thresholds:
        counts = _counts(match, threshold)
        pairs.append((threshold, _share(counts["tp"], sum(counts.values()))))
    return pairs


def mistakes(match: ObjectMatch) -> dict[str, int]:
    """Return the numbers of splits, merges and misses."""
    inside_true = 2 * match.shared > match.predicted_sizes[match.predicted]
    inside_predicted = 2 * match.shared > match.true_sizes[match.true]
    fragments = np.bincount(match.true[inside_true], minlength=len(match.true_ids))
    swallowed = np.bincount(
        match.predicted[inside_predicted], minlength=len(match.predicted_ids)
    )
    covered = np.zeros(len(match.true_ids), np.int64)
    np.add.at(covered, match.true, match.shared)
    return {
        "splits": int((fragments > 1).sum()),
        "merges": int((swallowed > 1).sum()),
        "misses": int((2 * covered <= match.true_sizes).sum()),
    }


def recall_by_size(
    match: ObjectMatch,
    edges: Sequence[float] | None = None,
    threshold: float = _HALF,
    voxel_volume_um3: float = 1.0,
) -> list[dict[str, float | int]]:
    """Return the share of true objects that were found, for each size class.

    Parameters
    ----------
    match : ObjectMatch
    edges : sequence of float, optional
        Borders between the size classes, in um^3. When None, the classes are thirds of
        the true objects.
    threshold : float
        An object counts as found when its IoU is above this.
    voxel_volume_um3 : float
        Volume of a voxel in um^3; 1 gives sizes in voxels.

    Returns
    -------
    list of dict
        ``from``, ``to`` (half-open, in um^3), ``n`` and ``recall`` (NaN for n = 0).
    """
    sizes = match.true_sizes * voxel_volume_um3
    if edges is None:
        edges = np.quantile(sizes, [1 / 3, 2 / 3]).tolist() if len(sizes) else []
    found = np.zeros(len(sizes), bool)
    found[match.true[match.matched(threshold)]] = True
    borders = [0.0, *edges, float("inf")]
    return [
        {
            "from": low,
            "to": high,
            "n": int(inside.sum()),
            "recall": _share(int(found[inside].sum()), int(inside.sum())),
        }
        for low, high in pairwise(borders)
        for inside in [(sizes >= low) & (sizes < high)]
    ]


def _counts(match: ObjectMatch, threshold: float) -> dict[str, int]:
    tp = int(match.matched(threshold).sum())
    return {
        "tp": tp,
        "fp": len(match.predicted_ids) - tp,
        "fn": len(match.true_ids) - tp,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _none(match: ObjectMatch) -> float:
    """Return the score when nothing matched: NaN without objects, otherwise 0."""
    return float("nan") if match.undefined else 0.0

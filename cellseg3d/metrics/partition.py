"""Differences between two partitions of a volume: information and Rand error.

Voxels whose true value is 0 (background) are not counted, as in the CREMI and SNEMI3D
challenges. Both scores follow from one sparse table of shared voxels.
"""

import numpy as np

from cellseg3d.metrics.contingency import Contingency, Ids


def variation_of_information(
    table: Contingency, ignore_truth: int | None = 0
) -> tuple[float, float]:
    """Return the variation of information, in bits, as (split, merge).

    Parameters
    ----------
    table : Contingency
        Predicted and true ids of a volume.
    ignore_truth : int or None
        A true value whose voxels are not counted; None counts every voxel.

    Returns
    -------
    Entropy of the prediction given the truth (high when there are too many pieces)
    and of the truth given the prediction (too few); NaN when no voxel is left.
        given the prediction (too few); NaN when no voxel is left.

    References
    ----------
    .. [1] Meila 2007, doi:10.1016/j.jmva.2006.11.013
    """
    kept = table.without_truth(ignore_truth)
    if not kept.voxels:
        return float("nan"), float("nan")
    joint = _entropy(kept.count)
    split = joint - _entropy(kept.true_sizes()[1])
    merge = joint - _entropy(kept.predicted_sizes()[1])
    # Rounding can give -1e-16 where the entropy is 0.
    return max(0.0, split), max(0.0, merge)


def adapted_rand_error(table: Contingency) -> float:
    """Return 1 minus the F score of the pairs of voxels that lie in one object.

    Parameters
    ----------
    table : Contingency
        Predicted and true ids of a volume. True value 0 is not counted; each voxel
        inside an object that is predicted 0 counts as an object of its own.

    Returns
    -------
    In [0, 1], 0 for equal partitions; NaN when the truth holds no object.
        In [0, 1], 0 for equal partitions; NaN when the truth holds no object.

    References
    ----------
    .. [1] Arganda-Carreras et al. 2015 (SNEMI3D), doi:10.3389/fnana.2015.00142
    """
    kept = table.without_truth(0)
    if not kept.voxels:
        return float("nan")
    objects = kept.select(kept.predicted != 0)
    singles = kept.voxels - objects.voxels
    together = _squares(objects.count) + singles
    predicted = _squares(objects.predicted_sizes()[1]) + singles
    true = _squares(kept.true_sizes()[1])
    return 1.0 - 2.0 * together / (predicted + true)


def partition_scores(table: Contingency) -> dict[str, float]:
    """Return variation of information in bits (parts and sum), and Rand error."""
    split, merge = variation_of_information(table)
    return {
        "vi_split": split,
        "vi_merge": merge,
        "vi": split + merge,
        "adapted_rand_error": adapted_rand_error(table),
    }


def _entropy(count: Ids) -> float:
    share = count / count.sum()
    return float(-(share * np.log2(share)).sum())


def _squares(count: Ids) -> float:
    # As floats, because the square of a large object's size exceeds 64 bits.
    return float((count.astype(np.float64) ** 2).sum())

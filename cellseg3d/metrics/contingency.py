"""Count how often each pair of a predicted and a true value occurs in a volume.

Every score of classes and of objects follows from this sparse table. So a volume is
read only once, in blocks, however many ids it holds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.errors import LabelError

BLOCK_VOXELS = 2**25
LARGEST = np.iinfo(np.int64).max
Labels = NDArray[Any]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Contingency:
    """The number of voxels of each pair of a predicted and a true value that occurs.

    Parameters
    ----------
    predicted, true : ndarray of int64, shape (n,)
        The two values of each pair. Every pair appears once.
    count : ndarray of int64, shape (n,)
        Number of voxels that have both values, at least 1.
    """

    predicted: Ids
    true: Ids
    count: Ids

    @property
    def voxels(self) -> int:
        """The number of voxels counted."""
        return int(self.count.sum())

    def without_truth(self, value: int | None) -> "Contingency":
        """Return the pairs whose true value is not `value`; all when it is None."""
        return self if value is None else self.select(self.true != value)

    def select(self, kept: NDArray[np.bool_]) -> "Contingency":
        """Return the pairs where `kept`, of shape (n,), is true."""
        return Contingency(self.predicted[kept], self.true[kept], self.count[kept])

    def renamed(
        self, predicted: Mapping[int, int] | None, true: Mapping[int, int] | None
    ) -> "Contingency":
        """Return the table with values replaced; values that are not named stay."""
        if not predicted and not true:
            return self
        return _sum_pairs(
            _rename(self.predicted, predicted), _rename(self.true, true), self.count
        )

    def predicted_sizes(self) -> tuple[Ids, Ids]:
        """Return the predicted values, sorted, and the number of voxels of each."""
        return _totals(self.predicted, self.count)

    def true_sizes(self) -> tuple[Ids, Ids]:
        """Return the true values, sorted, and the number of voxels of each."""
        return _totals(self.true, self.count)


def count_pairs(prediction: Labels, truth: Labels) -> Contingency:
    """Count the pairs of values of two arrays in memory.

    Parameters
    ----------
    prediction, truth : ndarray of integers or bool, any one shape
        Classes or ids.

    Raises
    ------
    LabelError
        If the shapes differ or the values are not integers.
    """
    check_labels(prediction, truth)
    if prediction.size == 0:
        nothing = np.zeros(0, np.int64)
        return Contingency(nothing, nothing, nothing)
    if prediction.dtype.itemsize == truth.dtype.itemsize == 1:
        return _count_bytes(prediction, truth)
    return _count_runs(prediction.ravel(), truth.ravel())


def count_slices(prediction: ArrayLike, truth: ArrayLike) -> list[Contingency]:
    """Count the pairs of values of each slice along z; volumes are read in blocks.

    Parameters
    ----------
    prediction, truth : arrays or lazy arrays of integers, shape (Z, Y, X) or (Y, X)
        Classes or ids.

    Returns
    -------
    list of Contingency
        One table per slice; `total` adds them up.

    Raises
    ------
    LabelError
        If the shapes differ or the values are not integers.
    """
    check_labels(prediction, truth)
    if len(truth.shape) == 2:
        return [count_pairs(np.asarray(prediction[:]), np.asarray(truth[:]))]
    return [
        count_pairs(predicted, true)
        for first in slabs(truth)
        for predicted, true in zip(
            np.asarray(prediction[first]), np.asarray(truth[first]), strict=True
        )
    ]


def slabs(array: ArrayLike) -> Iterator[tuple[slice, slice, slice]]:
    """Yield slabs of whole slices that fit into memory and together cover a volume."""
    depth, height, width = array.shape
    step = max(1, BLOCK_VOXELS // max(1, height * width))
    whole = slice(None)
    for start in range(0, depth, step):
        yield slice(start, min(depth, start + step)), whole, whole


def total(parts: Iterable[Contingency]) -> Contingency:
    """Return the sum of several tables, of parts of a volume or of several volumes."""
    tables = list(parts)
    if not tables:
        nothing = np.zeros(0, np.int64)
        return Contingency(nothing, nothing, nothing)
    return _sum_pairs(
        together([table.predicted for table in tables]),
        together([table.true for table in tables]),
        np.concatenate([table.count for table in tables]),
    )


def as_ids(values: Labels) -> Ids:
    """Return values as int64; as uint64 where one is too large for it."""
    if values.dtype == np.uint64 and values.size and values.max() > LARGEST:
        return values
    return values.astype(np.int64)


def together(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays of ids in one; numpy would turn int64 beside uint64 into floats.

    Raises
    ------
    LabelError
        If some are negative and others above 2^63.
    """
    if len({part.dtype for part in parts}) == 1:
        return np.concatenate(parts)
    if any(part.size and part.min() < 0 for part in parts):
        raise LabelError("labels hold values below 0 and above 2^63; renumber them")
    return np.concatenate([part.astype(np.uint64) for part in parts])


def check_labels(prediction: ArrayLike, truth: ArrayLike) -> None:
    """Raise an error if two label arrays cannot be compared voxel by voxel.

    Raises
    ------
    LabelError
        If the shapes differ or the values are not integers.
    """
    check_shapes(prediction.shape, truth.shape)
    for role, array in (("prediction", prediction), ("truth", truth)):
        if np.dtype(array.dtype).kind not in "iub":
            message = f"{role}: labels must be integers, found {array.dtype}"
            raise LabelError(message)


def check_shapes(prediction: Sequence[int], truth: Sequence[int]) -> None:
    """Raise an error if two shapes differ.

    Raises
    ------
    LabelError
        If they differ. The message holds both shapes and a likely cause.
    """
    if tuple(prediction) == tuple(truth):
        return
    transposed = sorted(prediction) == sorted(truth)
    guess = "; one is transposed" if transposed else "; give two arrays of one volume"
    message = (
        f"prediction has shape {tuple(prediction)} (z, y, x) but truth has "
        f"{tuple(truth)}{guess}"
    )
    raise LabelError(message)


def _count_bytes(prediction: Labels, truth: Labels) -> Contingency:
    """Count pairs of 8-bit values in one table of 65536 entries."""
    low, high = _lowest(prediction), _lowest(truth)
    pairs = (prediction.astype(np.int64) - low) * 256 + (truth.astype(np.int64) - high)
    table = np.bincount(pairs.ravel(), minlength=65536)
    found = np.flatnonzero(table)
    return Contingency(found // 256 + low, found % 256 + high, table[found])


def _lowest(array: Labels) -> int:
    return -128 if array.dtype.kind == "i" else 0


def _count_runs(prediction: Labels, truth: Labels) -> Contingency:
    """Count pairs of wider values by runs along x, since labels are often constant."""
    change = prediction[1:] != prediction[:-1]
    change |= truth[1:] != truth[:-1]
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])
    lengths = np.diff(starts, append=prediction.size)
    return _sum_pairs(prediction[starts], truth[starts], lengths)


def _sum_pairs(predicted: Labels, true: Labels, count: Ids) -> Contingency:
    predicted_values, predicted_index = np.unique(predicted, return_inverse=True)
    true_values, true_index = np.unique(true, return_inverse=True)
    key = predicted_index.astype(np.int64) * max(1, len(true_values)) + true_index
    pairs, summed = _totals(key, count)
    row, column = np.divmod(pairs, max(1, len(true_values)))
    return Contingency(
        as_ids(predicted_values)[row],
        as_ids(true_values)[column],
        summed,
    )


def _rename(values: Ids, names: Mapping[int, int] | None) -> Ids:
    renamed = values.copy()
    for old, new in (names or {}).items():
        renamed[values == old] = new
    return renamed


def _totals(values: Ids, count: Ids) -> tuple[Ids, Ids]:
    """Return the distinct values, sorted, and the sum of the counts of each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(first)
    if not len(starts):
        return ordered, np.zeros(0, np.int64)
    return ordered[starts], np.add.reduceat(count[order].astype(np.int64), starts)

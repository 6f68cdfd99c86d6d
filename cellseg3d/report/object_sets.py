"""The objects of a volume: object ids, or connected components of one class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.ignore import IGNORE
from cellseg3d.metrics.components import label_components
from cellseg3d.metrics.object_scores import ObjectMatch, match_objects
from cellseg3d.report.inputs import ReportVolume
from cellseg3d.report.legend import class_name

FOREGROUND = "foreground"


@dataclass(frozen=True)
class ObjectSet:
    """The objects of one class in one volume.

    Parameters
    ----------
    kind : str
        The class, or ``"foreground"`` for ids.
    predicted : ndarray of integers, shape (Z, Y, X)
        Object ids; 0 is background.
    truth : ndarray of integers, shape (Z, Y, X), or None
    match : ObjectMatch or None
        The voxels that both share; None without a truth.
    """

    kind: str
    predicted: NDArray[Any]
    truth: NDArray[Any] | None
    match: ObjectMatch | None


def object_sets(
    volume: ReportVolume, *, ids: bool, classes: Sequence[str] = ()
) -> Iterator[ObjectSet]:
    """Yield the objects of each class that occurs, outside of unannotated voxels.

    Parameters
    ----------
    volume : ReportVolume
    ids : bool
        Whether label values are object ids.
    classes : sequence of str
        Class names by value; a class without a name is called by its value.
    """
    predicted = volume.prediction.read()
    truth = volume.truth.read() if volume.truth is not None else None
    if ids:
        yield _set(FOREGROUND, predicted, truth)
        return
    values = set(np.unique(predicted).tolist())
    annotated = np.ones(1, np.bool_)
    if truth is not None:
        values |= set(np.unique(truth).tolist())
        annotated = truth != IGNORE
    for value in sorted(values - {0, IGNORE}):
        pieces = label_components((predicted == value) & annotated)
        true = None if truth is None else label_components(truth == value)
        yield _set(class_name(value, classes), pieces, true)


def _set(kind: str, predicted: NDArray[Any], truth: NDArray[Any] | None) -> ObjectSet:
    match = None if truth is None else match_objects(predicted, truth)
    return ObjectSet(kind, predicted, truth, match)

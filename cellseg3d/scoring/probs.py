"""Score probabilities against the truth: ROC curve, best threshold, calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.class_files import PROB_MARK, class_of_file
from cellseg3d.core.errors import InputError
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import case_stem
from cellseg3d.io.names import stem_of
from cellseg3d.io.registry import list_volumes
from cellseg3d.metrics.calibration import (
    brier_score,
    negative_log_likelihood,
    reliability,
    roc_curve,
)

CURVE_POINTS = 200


@dataclass(frozen=True)
class ScoredProbs:
    """The scores of the probabilities of one class in one volume.

    Parameters
    ----------
    scores : dict
        ``auc``; ``threshold``, the one with the highest Dice; ``dice_at_threshold``;
        ``ece``, ``brier``, ``nll`` (nats); NaN where undefined.
    curves : dict
        ``roc``: rows of (threshold, false positive rate, true positive rate);
        ``reliability``: rows of (mean probability, share that is true, voxels).
    """

    scores: dict[str, float]
    curves: dict[str, list[list[float]]]


def score_probs(
    probs: Volume, truth: NDArray[Any], value: int | None = None
) -> ScoredProbs:
    """Score the probability of one class.

    The threshold is the best one for this volume, so its Dice is too high. Test the
    threshold on other volumes.

    Parameters
    ----------
    probs : Volume, shape (Z, Y, X)
        Floats in [0, 1], or unsigned integers, which are divided by the largest value
        of their dtype.
    truth : ndarray of integers, shape (Z, Y, X)
        Class labels; 255 is not annotated.
    value : int, optional
        The class; every value above 0 when None.

    Raises
    ------
    LabelError
        If the shapes differ.
    """
    p = probs.read()
    if p.dtype.kind in "ui":
        p = p / np.float32(np.iinfo(p.dtype).max)
    roc = roc_curve(p, truth, value)
    bins = reliability(p, truth, value)
    threshold = roc.choose()
    at = np.flatnonzero(roc.thresholds == threshold)
    scores = {
        "auc": roc.auc,
        "threshold": threshold,
        "dice_at_threshold": float(roc.dice[at[0]]) if len(at) else float("nan"),
        "ece": bins.ece,
        "brier": brier_score(p, truth, value),
        "nll": negative_log_likelihood(p, truth, value),
    }
    rates = [roc.thresholds, roc.false_positive_rate, roc.true_positive_rate]
    last = len(roc.thresholds) - 1
    kept = np.unique(np.linspace(0, last, CURVE_POINTS).astype(int))
    columns = [bins.confidence, bins.frequency, bins.count]
    filled = bins.count > 0
    curves = {
        "roc": np.stack(rates, axis=1)[kept].tolist(),
        "reliability": np.stack(columns, axis=1)[filled].tolist(),
    }
    return ScoredProbs(scores, curves)


def find_probs(place: str, name: str, classes: Sequence[str]) -> dict[str, str]:
    """Return a volume's files of probabilities by class, without that of background.

    Parameters
    ----------
    place : str
        The file of this volume, or a folder of files NAME_prob_CLASS.
    name : str
        Name of the volume in tables.
    classes : sequence of str
        Class names by value, background first. If there is only one file and it names
        another class, its probabilities are those of the foreground.

    Returns
    -------
    dict
        File by class name; the name ``""`` means everything above 0.

    Raises
    ------
    InputError
        If the path does not exist, holds no file of the volume, or a class is unknown.
    """
    path = Path(place.partition("::")[0])
    if not path.exists():
        raise InputError(
            f"{path}: does not exist; give a file or folder of `predict --probs`"
        )
    if path.is_file() or path.name.lower().endswith(".zarr"):
        return {_class_of(place, classes): place}
    found = {}
    for file in list_volumes(path):
        before, word = class_of_file(case_stem(str(file)), classes)
        if PROB_MARK in file.name and stem_of(before) == name:
            found[word] = str(file)
    first = classes[0] if classes else "background"
    found = {each: file for each, file in found.items() if each != first}
    if not found:
        message = (
            f"{path}: holds no {name}{PROB_MARK}CLASS; run `cellseg3d predict --probs "
            "uint8`"
        )
        raise InputError(message)
    unknown = sorted(set(found) - set(classes))
    if not unknown:
        return {each: found[each] for each in classes if each in found}
    if len(found) == 1:
        return {"": next(iter(found.values()))}
    message = (
        f"{found[unknown[0]]}: no class is called {unknown[0]!r}; give `classes` "
        "background,... in the order of their values"
    )
    raise InputError(message)


def class_value(name: str, classes: Sequence[str]) -> int | None:
    """Return the value of a class; None for ``""``, which is everything above 0."""
    return list(classes).index(name) if name else None


def _class_of(place: str, classes: Sequence[str]) -> str:
    named = class_of_file(case_stem(place), classes)[1]
    return named if named in classes[1:] else ""

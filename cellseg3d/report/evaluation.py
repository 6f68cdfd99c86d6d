"""Compute the scores of a report; every number comes from `cellseg3d.metrics`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellseg3d.core.volume import Volume
from cellseg3d.metrics.object_scores import (
    AP_THRESHOLDS,
    ObjectMatch,
    object_scores,
)
from cellseg3d.metrics.overlap import mean_defined
from cellseg3d.metrics.statistics import Summary
from cellseg3d.report.inputs import ReportVolume
from cellseg3d.report.object_sets import object_sets
from cellseg3d.scoring.evaluate import Evaluation
from cellseg3d.scoring.one_volume import FOREGROUND, ScoreOptions, score_volume
from cellseg3d.scoring.pairs import ScorePair
from cellseg3d.scoring.probs import ScoredProbs, class_value, score_probs
from cellseg3d.scoring.report import as_json, summaries

# A predicted piece below this share of the smallest true object is a speck.
SPECK = 0.1


@dataclass(frozen=True)
class Pieces:
    """How many objects of a class there are over all volumes.

    Parameters
    ----------
    true, predicted, found : int
        Numbers of true objects, of predicted ones, and of pairs that match.
    specks : int
        Predicted objects that match none and are smaller than a tenth of the smallest
        true one of their volume.
    """

    true: int
    predicted: int
    found: int
    specks: int


@dataclass(frozen=True)
class ReportScores:
    """All scores that a report shows.

    Parameters
    ----------
    table : dict
        Scores as `cellseg3d.scoring.report.as_json` returns them.
    by_iou : dict of str to list of dict
        For each class, ``iou`` and the means over volumes of ``precision``, ``recall``
        and ``ap``.
    probabilities : list of tuple
        Volume, class, and the scores of its probabilities.
    objects : dict
        For each class, the summary over volumes of every object score.
    pieces : dict of str to Pieces
        The number of objects of each class.
    """

    table: dict[str, Any] = field(default_factory=dict)
    by_iou: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    probabilities: list[tuple[str, str, ScoredProbs]] = field(default_factory=list)
    objects: dict[str, dict[str, Summary]] = field(default_factory=dict)
    pieces: dict[str, Pieces] = field(default_factory=dict)


def score_volumes(
    volumes: Sequence[ReportVolume], *, ids: bool, classes: Sequence[str] = ()
) -> ReportScores:
    """Score every volume that has a truth.

    Parameters
    ----------
    volumes : sequence of ReportVolume
    ids : bool
        Whether label values are object ids.
    classes : sequence of str
        Class names by value, background first.
    """
    known = [volume for volume in volumes if volume.truth is not None]
    if not known:
        return ReportScores()
    scored, pairs = [], []
    matches: dict[str, list[ObjectMatch]] = {}
    for volume in known:
        truth = _truth(volume)
        options = ScoreOptions(
            classes=tuple(classes),
            ids=ids,
            components=True,
            surface=volume.spacing is not None,
            spacing=volume.spacing,
        )
        scored.append(score_volume(volume.prediction, truth, options))
        pairs.append(
            ScorePair(
                volume.name,
                volume.paths["prediction"],
                volume.paths["truth"],
                volume.name,
            )
        )
        for each in object_sets(volume, ids=ids, classes=classes):
            if each.match is not None:
                matches.setdefault(each.kind, []).append(each.match)
    evaluation = Evaluation(tuple(pairs), tuple(scored))
    return ReportScores(
        as_json(evaluation),
        {kind: by_iou(found) for kind, found in matches.items()},
        _probabilities(known, classes),
        summaries(evaluation, objects=True),
        {kind: count_pieces(found) for kind, found in matches.items()},
    )


def count_pieces(matches: Sequence[ObjectMatch]) -> Pieces:
    """Return how many objects there are over all volumes, and how many are specks."""
    specks = 0
    for match in matches:
        alone = np.ones(len(match.predicted_ids), np.bool_)
        alone[match.predicted[match.matched()]] = False
        smallest = match.true_sizes.min(initial=np.iinfo(np.int64).max)
        if len(match.true_sizes):
            specks += int((alone & (match.predicted_sizes < SPECK * smallest)).sum())
    return Pieces(
        sum(len(match.true_ids) for match in matches),
        sum(len(match.predicted_ids) for match in matches),
        sum(int(match.matched().sum()) for match in matches),
        specks,
    )


def _truth(volume: ReportVolume) -> Volume:
    if volume.truth is None:
        raise ValueError(f"{volume.name} has no truth")
    return volume.truth


def by_iou(matches: Sequence[ObjectMatch]) -> list[dict[str, float]]:
    """Return mean precision, recall and AP over volumes at IoU .5, .55, ... .95."""
    rows = []
    for iou in AP_THRESHOLDS:
        scores = [object_scores(match, iou) for match in matches]
        row = {"iou": iou}
        for name, key in (
            ("precision", "object_precision"),
            ("recall", "object_recall"),
            ("ap", "ap"),
        ):
            row[name] = mean_defined([float(each[key]) for each in scores])[0]
        rows.append(row)
    return [row for row in rows if np.isfinite(row["ap"])]


def _probabilities(
    volumes: Sequence[ReportVolume], classes: Sequence[str]
) -> list[tuple[str, str, ScoredProbs]]:
    return [
        (
            volume.name,
            name or FOREGROUND,
            score_probs(probs, _truth(volume).read(), class_value(name, classes)),
        )
        for volume in volumes
        for name, probs in volume.probs.items()
    ]

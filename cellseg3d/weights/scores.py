"""Score weights, volume by volume, on volumes that they were not trained on."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.bundle.model import TrainedModel, load_model
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.labels import class_labels
from cellseg3d.io.registry import read_labels, read_volume
from cellseg3d.metrics.object_scores import match_objects, object_scores
from cellseg3d.metrics.overlap import dice
from cellseg3d.metrics.statistics import summarise
from cellseg3d.objects.label import label_objects
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.prediction.tune_objects import decoder_of
from cellseg3d.weights.pictures import fullest_slice
from cellseg3d.weights.prepare import test_cases
from cellseg3d.weights.recipe import FINAL, WeightsRecipe
from cellseg3d.weights.shifts import Labelled, middle, shifted
from cellseg3d.weights.training import Part

logger = logging.getLogger(__name__)
FOREGROUND = "foreground"
# Scores of changed volumes, and how many volumes of how many voxels are changed.
SHIFTED_SCORES = ("dice", "object_f1")
SHIFTED_VOLUMES, SHIFTED_VOXELS = 4, 2**19
# The scores of objects that the record holds.
OBJECT_SCORES = ("object_f1", "object_precision", "object_recall", "ap_mean")


@dataclass(frozen=True)
class Shown:
    """One slice of a scored volume, for a picture.

    Parameters
    ----------
    image : ndarray of float32, shape (y, x)
        Scaled intensities, as the network sees them.
    truth, found : ndarray of integers, shape (y, x)
        Class indices or object ids.
    """

    image: NDArray[np.float32]
    truth: NDArray[Any]
    found: NDArray[Any]


@dataclass(frozen=True)
class Score:
    """One score of one volume.

    Parameters
    ----------
    part : str
        The training whose weights were scored.
    condition : str
        The condition of simulated tomograms, or the name of what the training left out.
    case, class_name, metric : str
    value : float
        The score in [0, 1]; NaN if the class occurs in neither labels.
    """

    part: str
    condition: str
    case: str
    class_name: str
    metric: str
    value: float


def score_parts(
    recipe: WeightsRecipe, parts: Sequence[Part], datalist: Path
) -> tuple[list[Score], dict[str, Shown]]:
    """Score every part that has weights on volumes that it was not trained on.

    Parameters
    ----------
    recipe : WeightsRecipe
    parts : sequence of Part
    datalist : Path
        The datalist that they were trained on. Simulated test cases are written beside
        its volumes.

    Returns
    -------
    (list of Score, dict of str to Shown)
        The scores, and a slice of every case by its name.
    """
    cases = load_datalist(datalist)
    found: list[Score] = []
    shown: dict[str, Shown] = {}
    for part in parts:
        if not part.has_weights:
            continue
        model = model_of(part, recipe)
        for condition, case in unseen(recipe, part, cases):
            scores, picture = score_volume(model, _labelled(case), cases, recipe)
            shown[case.name] = picture
            logger.info("%s, %s: %s", part.name, case.name, scores)
            found += [
                Score(part.name, condition, case.name, class_name, metric, value)
                for (class_name, metric), value in scores.items()
            ]
    return found, shown


def robustness(
    recipe: WeightsRecipe, parts: Sequence[Part], datalist: Path
) -> list[dict[str, Any]]:
    """Return the scores of changed copies of volumes that a part was not trained on.

    For each part, the middle of the first `SHIFTED_VOLUMES` volumes is used, of at most
    `SHIFTED_VOXELS` voxels each.

    Returns
    -------
    list of dict
        Each has ``shift`` (``"none"`` for unchanged volumes), ``class``, ``metric``,
        ``mean`` and ``n``, over all parts together.
    """
    cases = load_datalist(datalist)
    each = max(1, SHIFTED_VOLUMES // len(parts))
    inverts = any("RandInvert" in str(one) for one in _augmentation(recipe))
    rows: dict[tuple[str, str, str], list[float]] = {}
    for part in parts:
        if not part.has_weights:
            continue
        model = model_of(part, recipe)
        for _, case in itertools.islice(unseen(recipe, part, cases), each):
            given = middle(_labelled(case), SHIFTED_VOXELS)
            copies = {"none": given, **shifted(given, inverts=inverts)}
            for shift, copy in copies.items():
                scores, _ = score_volume(model, copy, cases, recipe)
                for (class_name, metric), value in scores.items():
                    if metric in SHIFTED_SCORES:
                        key = (shift, class_name, metric)
                        rows.setdefault(key, []).append(value)
            logger.info(
                "%s, %s: %d changed copies were scored",
                part.name,
                case.name,
                len(copies) - 1,
            )
    return [
        {
            "shift": shift,
            "class": class_name,
            "metric": metric,
            "mean": _number(float(np.mean(values))),
            "n": len(values),
        }
        for (shift, class_name, metric), values in rows.items()
    ]


def summaries(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return the mean, interval and n for each part, condition, class and metric.

    Returns
    -------
    list of dict
        Each has ``part``, ``condition``, ``class``, ``metric``, ``mean``, ``low``,
        ``high`` (None if there are too few volumes), ``n`` and ``values``.
    """
    rows: dict[tuple[str, str, str, str], list[float]] = {}
    for score in scores:
        key = (score.part, score.condition, score.class_name, score.metric)
        rows.setdefault(key, []).append(score.value)
    table = []
    for (part, condition, class_name, metric), values in rows.items():
        found = summarise(values)
        table.append(
            {
                "part": part,
                "condition": condition,
                "class": class_name,
                "metric": metric,
                "mean": _number(found.mean),
                "low": _number(found.low),
                "high": _number(found.high),
                "n": found.n,
                "values": [_number(value) for value in values],
            }
        )
    return table


def predicted(
    model: TrainedModel,
    image: Volume,
    *,
    probs: bool = False,
    precision: str = "auto",
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return labels and, if wanted, probabilities, as ``predict`` gives them.

    Returns
    -------
    (ndarray of uint8, ndarray of float32)
        Labels (Z, Y, X) and probabilities (K, Z, Y, X), which are empty if not wanted.
        The probabilities are those that objects are found in, without a temperature.
    """
    options = SegmentOptions(probs=probs, calibrated=False, precision=precision)
    answer = segment(image, model, options)
    nothing = np.empty((0, 0, 0, 0), np.float32)
    found = nothing if answer.probs is None else answer.probs
    return np.asarray(answer.labels.array), found


def model_of(part: Part, recipe: WeightsRecipe) -> TrainedModel:
    """Return a part's model, with the spacing to which its volumes were resampled."""
    model = load_model(part.run)
    edges = None if recipe.spacing_um is None else Spacing.of(recipe.spacing_um)
    return replace(
        model,
        spacing_um=edges,
        resampled=edges is not None,
        adapts=recipe.adapts,
    )


def unseen(
    recipe: WeightsRecipe, part: Part, cases: Datalist
) -> Iterator[tuple[str, Case]]:
    """Yield the cases that a part was not trained on, each with what was left out."""
    if recipe.simulated:
        # Several bundles share the training cells, and the test cells beside them.
        yield from test_cases(recipe, Path(cases.cases[0].image).parent / "test")
        return
    for case in cases.cases:
        if part.left_out is not None and case.group == part.left_out:
            yield part.left_out, case
        elif part.name == FINAL and case.split == "test":
            yield _test_set(recipe, case), case


def _test_set(recipe: WeightsRecipe, case: Case) -> str:
    """Return the name of the data set that a test case belongs to."""
    named = [each.name for each in recipe.sources if case.name.startswith(each.name)]
    return named[0] if named else recipe.sources[0].name


def score_volume(
    model: TrainedModel, given: Labelled, cases: Datalist, recipe: WeightsRecipe
) -> tuple[dict[tuple[str, str], float], Shown]:
    """Return the scores of a labelled volume by class and metric, and a slice of it.

    Parameters
    ----------
    model : TrainedModel
    given : Labelled
    cases : Datalist
        The datalist with the meaning of the labels' values.
    recipe : WeightsRecipe
    """
    image, label = given.image, given.label
    if recipe.target == "classes":
        found, _ = predicted(model, image)
        truth = class_labels(label.read(), cases, label.name)
        scores = _class_scores(found, truth, cases.classes)
    else:
        found, probs = predicted(model, image, probs=True)
        truth = label.read()
        decoder = decoder_of(model, image.spacing)
        objects = label_objects(probs, image.spacing, decoder, probs=True)
        scores = {}
        if recipe.target == "border-core":
            scores[FOREGROUND, "dice"] = dice(found > 0, (truth > 0).astype(np.uint8))
        found = np.asarray(objects.volume.array)
        measured = object_scores(match_objects(found, truth))
        scores |= {("object", key): float(measured[key]) for key in OBJECT_SCORES}
    place = fullest_slice(truth)
    offset, factor = model.intensity.measure(image)
    plane = model.intensity.apply(image.read()[place], offset, factor)
    return scores, Shown(plane, truth[place], found[place])


def _labelled(case: Case) -> Labelled:
    return Labelled(read_volume(case.image), read_labels(case.label or ""))


def _augmentation(recipe: WeightsRecipe) -> Sequence[Any]:
    return list(recipe.settings.get("train::random_transforms", []))


def _class_scores(
    found: NDArray[np.uint8], truth: NDArray[np.uint8], classes: Sequence[str]
) -> dict[tuple[str, str], float]:
    scores = {
        (name, "dice"): dice(found, truth, value)
        for value, name in enumerate(classes)
        if value
    }
    if len(classes) > 2:
        scores[FOREGROUND, "dice"] = dice(found, truth)
    return scores


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None

"""Fit the temperature of a model, and the lines by which a Dice is expected.

Validation volumes are predicted once, as `cellseg3d predict` does it. The voxels of a
coarse lattice are kept for the fit; true Dice is measured on all annotated voxels.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cellseg3d.bundle.confidence import KEY, store_confidence
from cellseg3d.bundle.model import TrainedModel, load_model
from cellseg3d.calibration.window import record_in_run, volume_of
from cellseg3d.core.errors import CellSegError, ConfigError, LabelError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.resampling import nearest_on
from cellseg3d.datasets.volumes import LoadedCase, LoadedFold
from cellseg3d.metrics.expected_dice import DiceLine, fit_dice_line, soft_dice
from cellseg3d.metrics.temperature import (
    fit_temperature,
    likelihood_loss,
    top_reliability,
)
from cellseg3d.prediction.fusion import labels_of, probs_of
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.rescale import onto_training_grid
from cellseg3d.prediction.setup import set_up
from cellseg3d.prediction.tally import COUNTED, Tally, sums_of
from cellseg3d.runs.unseen import unseen_cases

logger = logging.getLogger(__name__)
# The most voxels of all volumes together whose scores are kept for the fit.
KEPT = 2**23


@dataclass(frozen=True)
class LabelledVolume:
    """A volume with labels that the network was not trained on.

    Parameters
    ----------
    name : str
    group : str
        What it shares with others, such as its specimen. Errors are measured on whole
        groups that were left out of the fit.
    image : Volume
        Raw intensities.
    labels : ndarray of uint8, shape (Z, Y, X)
        Class indices; 255 is not annotated.
    """

    name: str
    group: str
    image: Volume
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Answered:
    """A model's answer for a labelled volume, as far as the fit needs it.

    Parameters
    ----------
    name, group : str
        As in `LabelledVolume`.
    scores : ndarray of float32, shape (K, n)
        Logits, or logarithms of fused probabilities, of some annotated voxels.
    truth : ndarray of uint8, shape (n,)
        Their true classes.
    dice : ndarray of float64, shape (K,)
        The true Dice of each class on all annotated voxels; NaN where a class is
        neither true nor found.
    """

    name: str
    group: str
    scores: NDArray[np.float32]
    truth: NDArray[np.uint8]
    dice: NDArray[np.float64]


def settle_confidence(folder: Path, data: LoadedFold) -> dict[str, Any]:
    """Fit a run's temperature on its validation volumes and store it in the run.

    The result goes into the metadata, from which prediction reads it, and into
    ``run.json``. If the fit fails, the result is a note, and the run is unchanged.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    data : LoadedFold
        The data that it was trained on, with validation volumes.

    Returns
    -------
    dict
        What `fit_confidence` returns; or ``notes`` alone.
    """
    try:
        model = load_model(folder)
        answers = answers_of(model, _usable(data.validation))
        found = fit_confidence(answers, model.classes)
        store_confidence(folder, found)
    except CellSegError as error:
        found = {"notes": [f"no temperature was fitted: {error}"]}
        logger.info("%s", found["notes"][0])
    record_in_run(folder, KEY, found)
    return found


def answers_of(
    model: TrainedModel, volumes: Iterable[LabelledVolume], count: int | None = None
) -> list[Answered]:
    """Return a model's answers for labelled volumes, one after another.

    Parameters
    ----------
    model : TrainedModel
        The model; a temperature that it holds is not applied.
    volumes : iterable of LabelledVolume
        They may be read one at a time.
    count : int, optional
        How many volumes there are; their number when None.
    """
    if count is None:
        volumes = list(volumes)
        count = len(volumes)
    plain = replace(model, confidence=None)
    most = min(COUNTED, KEPT // max(1, count))
    return [_answered(plain, volume, most) for volume in volumes]


def _answered(model: TrainedModel, given: LabelledVolume, most: int) -> Answered:
    if given.labels.shape != given.image.shape:
        message = (
            f"{given.name}: labels of shape {given.labels.shape} do not fit an image "
            f"of {given.image.shape}"
        )
        raise LabelError(message)
    image, labels = given.image, given.labels
    seen = onto_training_grid(image, [model], rescale=None)
    if seen is not image:
        labels = nearest_on(labels, seen.shape)[Roi.whole(seen.shape).slices]
    pipeline = set_up(seen, [model], SegmentOptions(), warn=False)
    tally = Tally.of(seen.shape, most)
    size = IGNORE + 1
    table = np.zeros((size, size), np.int64)
    scores, truth = [], []
    for chunk in pipeline.chunks():
        for roi, logits in pipeline.scores(chunk):
            true = labels[roi.slices]
            found = labels_of(logits).cpu().numpy()
            pair = true.astype(np.int64) * size + found
            table += np.bincount(pair.ravel(), minlength=size**2).reshape(size, size)
            places = tally.places(roi)
            known = true[places] != IGNORE
            some = logits[(slice(None), *places)].float().cpu().numpy()
            scores.append(some[:, known])
            truth.append(true[places][known])
    return Answered(
        given.name,
        given.group,
        np.concatenate(scores, axis=1),
        np.concatenate(truth),
        _dice(np.delete(table, IGNORE, axis=0), pipeline.classes),
    )


def _dice(table: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return the Dice of each class from counts of (true, found) voxels."""
    both = np.diagonal(table)[:classes]
    total = table.sum(0)[:classes] + table.sum(1)[:classes]
    return np.where(total > 0, 2 * both / np.maximum(total, 1), np.nan)


def calibrate_bundle(
    folder: Path, data: Path | None = None, fold: str | None = None
) -> dict[str, Any]:
    """Fit the temperature of a bundle or run without training, and store it there.

    Parameters
    ----------
    folder : Path
        The folder of a run or bundle with weights.
    data : Path, optional
        A datalist or folder with volumes that did not train it; the data of its own
        training when None.
    fold : str, optional
        The fold whose validation volumes are taken; that of its training when None.

    Returns
    -------
    dict
        What `fit_confidence` returns.

    Raises
    ------
    ConfigError
        If each volume was used to train it, or its classes are borders or links.
    """
    model = load_model(folder)
    volumes = _usable(unseen_cases([model], data, fold))
    found = fit_confidence(answers_of(model, volumes), model.classes)
    store_confidence(model.path, found)
    if (model.path / "run.json").is_file():
        record_in_run(model.path, KEY, found)
    return found


def _usable(cases: Sequence[LoadedCase]) -> list[LabelledVolume]:
    """Return the labelled cases as volumes; refuse those of another target."""
    if any(case.target.of_objects for case in cases):
        message = (
            "the network learns borders or links, whose probabilities objects are made "
            "from, so they are left as they are"
        )
        raise ConfigError(message)
    return [
        LabelledVolume(case.name, case.name, volume_of(case), case.label)
        for case in cases
        if case.label is not None
    ]


def fit_confidence(
    answers: Sequence[Answered], classes: Sequence[str]
) -> dict[str, Any]:
    """Fit a temperature and, for each class, the line from soft to true Dice.

    Parameters
    ----------
    answers : sequence of Answered
    classes : sequence of str
        Names of the classes, background first.

    Returns
    -------
    dict
        ``temperature``; ``ece`` and ``nll`` (nats), each without and with a
        temperature, which is fitted on the other groups if there are several;
        ``groups``, how many; ``voxels`` of the fit; ``volumes``, their names; and
        ``dice``, the line of each class.

    Raises
    ------
    ConfigError
        If no voxel is annotated.
    """
    kept = [answer for answer in answers if len(answer.truth)]
    if not kept:
        message = (
            "no voxel of the validation volumes is annotated, so there is nothing to "
            "fit a temperature on; keep a labelled specimen back with `fold`"
        )
        raise ConfigError(message)
    temperature = temperature_of(kept)
    groups = list(dict.fromkeys(answer.group for answer in kept))
    errors: dict[str, list[tuple[float, float]]] = {"ece": [], "nll": []}
    for group in groups:
        others = [answer for answer in kept if answer.group != group]
        heat = temperature_of(others) if others else temperature
        for answer in kept:
            if answer.group == group:
                pair = (answer.scores, answer.truth)
                both = [top_reliability(*pair, each).ece for each in (1.0, heat)]
                errors["ece"].append((both[0], both[1]))
                both = [likelihood_loss(*pair, each) for each in (1.0, heat)]
                errors["nll"].append((both[0], both[1]))
    means = {key: np.mean(values, axis=0) for key, values in errors.items()}
    return {
        "temperature": round(temperature, 4),
        **{key: [round(float(v), 5) for v in pair] for key, pair in means.items()},
        "groups": len(groups),
        "voxels": sum(len(answer.truth) for answer in kept),
        "volumes": [answer.name for answer in kept],
        "dice": {
            name: line.as_dict()
            for name, line in lines_of(kept, classes, temperature).items()
        },
    }


def lines_of(
    answers: Sequence[Answered], classes: Sequence[str], temperature: float
) -> dict[str, DiceLine]:
    """Return the line from soft to true Dice of each class but background."""
    softs = np.array([soft_of(answer, temperature) for answer in answers])
    groups = [answer.group for answer in answers]
    found = {}
    for index, name in enumerate(classes):
        true = [answer.dice[index] for answer in answers]
        line = fit_dice_line(softs[:, index].tolist(), true, groups)
        if index and line is not None:
            found[name] = line
    return found


def temperature_of(answers: Sequence[Answered]) -> float:
    """Return the temperature of some volumes, each of which counts the same."""
    least = min(len(answer.truth) for answer in answers)
    parts = []
    for answer in answers:
        places = np.linspace(0, len(answer.truth) - 1, least).astype(int)
        parts.append((answer.scores[:, places], answer.truth[places]))
    scores = np.concatenate([each for each, _ in parts], axis=1)
    return fit_temperature(scores, np.concatenate([each for _, each in parts]))


def soft_of(answer: Answered, temperature: float) -> NDArray[np.float64]:
    """Return the soft Dice (K,) of an answer at a temperature."""
    scores = torch.from_numpy(answer.scores)[:, None, None, :]
    return soft_dice(sums_of(probs_of(scores, temperature)))

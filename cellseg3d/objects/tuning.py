"""Choose the parameters that separate objects best, on training volumes only."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.object_scores import match_objects, object_scores
from cellseg3d.objects.label import label_objects
from cellseg3d.objects.options import LengthScale, ObjectOptions
from cellseg3d.objects.source import Probable, open_source

log = logging.getLogger(__name__)
Score = Callable[[ArrayLike, ArrayLike], float]


@dataclass(frozen=True)
class TuningCase:
    """A training volume: the prediction to find objects in, and the true objects.

    Parameters
    ----------
    name, group : str
        The volume and its specimen, as in the datalist.
    source : Volume, array or sequence of Volume
        The prediction, as for `label_objects`; if possible from a network that was not
        trained on this volume.
    truth : array of unsigned integers, shape (Z, Y, X)
        True object ids.
    spacing : Spacing, optional
        Voxel edges; those of `source` when None.
    """

    name: str
    group: str
    source: Probable
    truth: ArrayLike
    spacing: Spacing | None = None


@dataclass(frozen=True)
class Tuned:
    """The best options, their mean score, and every trial in order."""

    options: ObjectOptions
    score: float
    trials: list[dict[str, Any]]


def mean_ap(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean of TP / (TP + FP + FN) over IoU .5 to .95; NaN if undefined."""
    return float(object_scores(match_objects(prediction, truth))["ap_mean"])


def tune_decoder(
    cases: Sequence[TuningCase],
    options: ObjectOptions | None = None,
    *,
    held_out: Collection[str] = (),
    grid: Mapping[str, Sequence[float]] | None = None,
    score: Score = mean_ap,
    rounds: int = 2,
) -> Tuned:
    """Return the options with the best mean score over the training volumes.

    One parameter after the other is varied while the others are kept, `rounds` times. A
    value is replaced only by one with a better score.

    Parameters
    ----------
    cases : sequence of TuningCase
        Training volumes.
    options : ObjectOptions, optional
        The method and the values to start from.
    held_out : collection of str
        Names and groups of validation and test volumes, which are refused.
    grid : mapping of str to sequence of float, optional
        The values to try for each option; those of `default_grid` when None.
    score : callable
        Function of (predicted ids, true ids); higher is better.
    rounds : int
        How many times all parameters are varied.

    Raises
    ------
    ConfigError
        If a case is held out, or if there is no case.
    """
    _refuse_held_out(cases, held_out)
    start = options or ObjectOptions()
    if start.method == "mean-size":
        start = replace(start, mean_volume_um3=mean_volume(cases))
    values = default_grid(cases, start) if grid is None else grid
    best, best_score = start, _mean_score(cases, start, score)
    trials = [start.as_dict() | {"score": best_score}]
    tried = {start: best_score}
    for _ in range(rounds):
        before = best
        for name, choices in values.items():
            for choice in choices:
                trial = ObjectOptions.parse(best.as_dict() | {name: choice})
                if trial not in tried:
                    tried[trial] = _mean_score(cases, trial, score)
                    trials.append(trial.as_dict() | {"score": tried[trial]})
                if tried[trial] > best_score:
                    best, best_score = trial, tried[trial]
        if best == before:
            break
    log.info("method %s scores %.4f on %d cases", best.method, best_score, len(cases))
    return Tuned(best, best_score, trials)


def default_grid(
    cases: Sequence[TuningCase], options: ObjectOptions
) -> dict[str, list[float]]:
    """Return the values to try, from the spacing and the true objects' volumes."""
    opened = open_source(cases[0].source, cases[0].spacing, options)
    edge = min(LengthScale.of(opened.spacing, options).edges)
    small = min(float(np.quantile(_volumes(case), 0.05)) for case in cases)
    sizes = [0.0, 0.1 * small, 0.25 * small, 0.5 * small]
    grids: dict[str, dict[str, list[float]]] = {
        "watershed": {
            "neck": [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95],
            "depth_um": [0.0, 0.5 * edge, edge, 1.5 * edge, 2 * edge],
        },
        "border-core": {
            "core_threshold": [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99],
        },
        "affinity": {
            "strong_affinity": [0.7, 0.8, 0.9, 0.95, 0.98, 0.99],
            "merge_affinity": [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        },
    }
    grid = grids.get(options.method, {}) | {"min_volume_um3": sizes}
    if options.method == "border-core" and not opened.probs:
        del grid["core_threshold"]
    if opened.probs and options.method != "affinity":
        grid["threshold"] = [0.3, 0.4, 0.5, 0.6, 0.7]
        grid["smoothing_um"] = [0.0, 0.5 * edge, edge]
    return grid


def mean_volume(cases: Sequence[TuningCase]) -> float:
    """Return the mean volume of the true objects in um^3, in voxels without spacing."""
    return float(np.concatenate([_volumes(case) for case in cases]).mean())


def _volumes(case: TuningCase) -> Any:  # noqa: ANN401
    options = ObjectOptions()
    scale = open_source(case.source, case.spacing, options).scale
    truth = np.asarray(case.truth[:])
    voxels = np.unique(truth[truth > 0], return_counts=True)[1]
    if not len(voxels):
        raise ConfigError(f"{case.name}: holds no true object to tune on; leave it out")
    return voxels * scale.voxel_volume


def _mean_score(
    cases: Sequence[TuningCase], options: ObjectOptions, score: Score
) -> float:
    scores = [
        score(
            label_objects(case.source, case.spacing, options).volume.array,
            case.truth,
        )
        for case in cases
    ]
    return float(np.mean(scores))


def _refuse_held_out(cases: Sequence[TuningCase], held_out: Collection[str]) -> None:
    if not cases:
        raise ConfigError("there is no training volume to tune on; give at least one")
    for case in cases:
        if case.name in held_out or case.group in held_out:
            message = (
                f"{case.name} (group {case.group}) is held out for scoring; tune on "
                "training volumes only"
            )
            raise ConfigError(message)

"""Score a trained bundle on labelled volumes that it was not trained on."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.engines.evaluator import Evaluator

from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.datasets.splits import training_fold
from cellseg3d.datasets.targets import LabelTarget
from cellseg3d.datasets.volumes import LoadedCase, load_cases
from cellseg3d.metrics.overlap import mean_defined

logger = logging.getLogger(__name__)


def evaluation_cases(
    dataset: str | Path,
    fold: int | str | None = 0,
    intensity: IntensityScale | dict[str, Any] | None = None,
    target: LabelTarget | dict[str, Any] | None = None,
    spacing_um: Sequence[float] | None = None,
) -> list[LoadedCase]:
    """Read the volumes to score a trained network on.

    These are the labelled test cases of the datalist or, if it has none, the validation
    cases of the fold.

    Parameters
    ----------
    dataset : str or Path
        A datalist file or a folder.
    fold : int, str or None
        The fold of the training.
    intensity : IntensityScale or dict, optional
        How the network scales intensities.
    target : LabelTarget or dict, optional
        What the network learned from the labels; their classes when None.
    spacing_um : three floats (z, y, x), optional
        Voxel edges that training resampled its volumes to, in um; None if it did not.

    Raises
    ------
    ConfigError
        If there are neither test nor validation cases.
    """
    datalist = load_datalist(dataset).aimed_at(target)
    chosen = training_fold(datalist, fold)
    test = [case for case in chosen.test if case.label is not None]
    cases = test or list(chosen.validation)
    if not cases:
        message = (
            f"{datalist.where}: has no case to score on; mark one with "
            '"split": "test", or add a second specimen'
        )
        raise ConfigError(message)
    return load_cases(cases, datalist, intensity, spacing_um=spacing_um)


def run_evaluation(
    evaluator: Evaluator, output: str | Path, classes: Sequence[str]
) -> dict[str, Any]:
    """Score volumes, write the scores as JSON, and return them.

    Parameters
    ----------
    evaluator : Evaluator
        An evaluator with `cellseg3d.training.scores.VolumeScores` as its key metric.
    output : str or Path
        The file to write.
    classes : sequence of str
        Class names, background first.

    Returns
    -------
    dict
        ``{"volumes": {NAME: {CLASS: {"dice": ...}}}, "mean": {CLASS: {"dice": ...}}}``;
        a score that is undefined is None.
    """
    evaluator.run()
    table = evaluator.state.metric_details[evaluator.state.key_metric_name]
    volumes = {
        name: {key: {"dice": _number(score)} for key, score in row.items()}
        for name, row in table.items()
    }
    means = {
        key: {"dice": _number(mean_defined([row[key] for row in table.values()])[0])}
        for key in classes[1:]
    }
    scores = {"volumes": volumes, "mean": means}
    if idist.get_rank() == 0:
        text = json.dumps(scores, indent=1) + "\n"
        path = Path(output)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        logger.info("wrote the scores of %d volumes to %s", len(volumes), path)
    return scores


def _number(score: float) -> float | None:
    return None if score != score else float(score)  # noqa: PLR0124

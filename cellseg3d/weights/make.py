"""Make the weights of a bundle again: data, trainings, scores, record."""

import logging
from dataclasses import dataclass
from pathlib import Path

from cellseg3d.bundle.shipped import configs_dir, find_bundle
from cellseg3d.runs.folder import TrainOptions
from cellseg3d.weights.prepare import prepare
from cellseg3d.weights.recipe import read_recipe
from cellseg3d.weights.record import ship
from cellseg3d.weights.training import StopAfter, choose_parts, parts_of, train_part

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MakeOptions:
    """What a user says about making weights.

    Parameters
    ----------
    only : str, optional
        The one part to train: ``"final"``, or what it leaves out.
    minutes : float, optional
        Stop after so long by the clock; the same call goes on.
    within : float, optional
        Minutes that every part is trained for, in place of its steps: a schedule by
        the clock, for machines of any speed.
    device : str, optional
    score_only : bool
        Train nothing; score what there is and ship it.
    """

    only: str | None = None
    minutes: float | None = None
    within: float | None = None
    device: str | None = None
    score_only: bool = False


def make_weights(
    name: str, out: Path, data: Path | None, options: MakeOptions | None = None
) -> Path | None:
    """Train what is missing; when the final training is done, score and ship it.

    Parameters
    ----------
    name : str
        The bundle.
    out : Path
        Folder of the prepared data and the run folders; keep it to go on later.
    data : Path or None
        Folder of the labelled volumes.
    options : MakeOptions, optional

    Returns
    -------
    Path or None
        The record; None when the time was up before the final training was done.
    """
    wanted = options or MakeOptions()
    configs = configs_dir()
    recipe = read_recipe(configs, name)
    bundle = find_bundle(name)
    datalist = prepare(recipe, data, out / "data")
    parts = parts_of(recipe, datalist, out)
    training = TrainOptions(
        minutes=wanted.within, device=wanted.device, progress=False, calibrate=False
    )
    todo = [] if wanted.score_only else choose_parts(parts, wanted.only)
    with StopAfter(wanted.minutes) as clock:
        for part in todo:
            if part.is_complete:
                logger.info("%s: %s is complete", name, part.name)
                continue
            try:
                train_part(part, recipe, bundle, datalist, training)
            except KeyboardInterrupt:
                if not clock.rang:
                    raise
                logger.info("%s: the time is up; the same command goes on", part.name)
                break
    if not parts[0].has_weights or not (wanted.score_only or parts[0].is_complete):
        return None
    return ship(recipe, parts, datalist, bundle, configs.parent)

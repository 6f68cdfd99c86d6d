"""Make the weights of a bundle: prepare data, train, score, write the record."""

import logging
from dataclasses import dataclass
from pathlib import Path

from cellseg3d.bundle.shipped import configs_dir, find_bundle
from cellseg3d.runs.options import TrainOptions
from cellseg3d.weights.prepare import prepare
from cellseg3d.weights.recipe import read_recipe
from cellseg3d.weights.record import ship
from cellseg3d.weights.training import StopAfter, choose_parts, parts_of, train_part

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MakeOptions:
    """Options for making the weights of a bundle.

    Parameters
    ----------
    only : str, optional
        The one part to train: ``"final"``, or the name of what a part leaves out.
    minutes : float, optional
        Minutes after which to stop. The same call continues later.
    within : float, optional
        Minutes to train each part, instead of its number of steps. The schedule then
        fits a machine of any speed.
    device : str, optional
    score_only : bool
        Whether to train nothing, but score the weights that exist and ship them.
    """

    only: str | None = None
    minutes: float | None = None
    within: float | None = None
    device: str | None = None
    score_only: bool = False


def make_weights(
    name: str, out: Path, data: Path | None, options: MakeOptions | None = None
) -> Path | None:
    """Train the parts that are missing, then score and ship the final weights.

    Parameters
    ----------
    name : str
        The name of the bundle.
    out : Path
        Folder for the prepared data and the runs. A later call continues from it.
    data : Path or None
        Folder of the labelled volumes.
    options : MakeOptions, optional

    Returns
    -------
    Path or None
        The file of the record; None if the time was up before the final training ended.
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
                logger.info(
                    "%s: the time is up; run the same command to continue", part.name
                )
                break
    if not parts[0].has_weights or not (wanted.score_only or parts[0].is_complete):
        return None
    return ship(recipe, parts, datalist, bundle, configs.parent)

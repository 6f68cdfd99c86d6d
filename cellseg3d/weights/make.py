"""Make the weights of a bundle: prepare data, train, score, write the record."""

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from cellseg3d.bundle.shipped import configs_dir, find_bundle, weights_file
from cellseg3d.core.errors import ConfigError
from cellseg3d.runs.options import TrainOptions
from cellseg3d.weights.prepare import prepare
from cellseg3d.weights.recipe import WeightsRecipe, read_recipe
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
    refine : bool
        Whether the final training begins with the weights that the bundle ships, at a
        third of the recipe's learning rate. Their own trainings stay in the record.
    """

    only: str | None = None
    minutes: float | None = None
    within: float | None = None
    device: str | None = None
    score_only: bool = False
    refine: bool = False


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

    Raises
    ------
    ConfigError
        If `refine` is asked for and the recipe leaves volumes out in turn, or the
        bundle has no weights.
    """
    wanted = options or MakeOptions()
    configs = configs_dir()
    recipe = read_recipe(configs, name)
    bundle = find_bundle(name)
    first = _first_weights(recipe, bundle, out) if wanted.refine else None
    if first is not None:
        recipe = _refining(recipe)
    datalist = prepare(recipe, data, out / "data")
    parts = parts_of(recipe, datalist, out)
    training = TrainOptions(
        minutes=wanted.within, device=wanted.device, progress=False, calibrate=False
    )
    if first is not None:
        training = replace(training, pretrained=first)
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
    return ship(recipe, parts, datalist, bundle, configs.parent, refined=wanted.refine)


def _first_weights(recipe: WeightsRecipe, bundle: Path, out: Path) -> Path:
    """Return a copy of the weights that a bundle ships, for a training to begin with.

    It is a copy, since the bundle's own file is replaced at the end.
    """
    if recipe.leave_out != "none":
        message = (
            f"{recipe.name}: its weights cannot be refined, because they were trained "
            f"on all volumes and would be scored on each {recipe.leave_out} that they "
            "have seen; train them anew, without `refine`"
        )
        raise ConfigError(message)
    copy = out / "first.safetensors"
    if not copy.is_file():
        shipped = weights_file(bundle)
        if not shipped.is_file():
            message = (
                f"{recipe.name}: ships no weights to begin with; train it without "
                "`refine`"
            )
            raise ConfigError(message)
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shipped, copy)
    return copy


def _refining(recipe: WeightsRecipe) -> WeightsRecipe:
    """Return a recipe with fewer steps and a third of its learning rate.

    At the whole rate a training would forget what the weights it begins with hold.
    """
    settings = dict(recipe.settings)
    if "optimizer::lr" in settings:
        settings["optimizer::lr"] = round(settings["optimizer::lr"] / 3, 6)
    return replace(recipe, steps=recipe.refine_steps, settings=settings)

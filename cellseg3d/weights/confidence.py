"""Fit the temperature of a bundle's weights on volumes that were left out."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.bundle.confidence import KEY
from cellseg3d.bundle.shipped import configs_dir, find_bundle
from cellseg3d.bundle.shipped_record import read_record, record_path
from cellseg3d.calibration.confidence import (
    Answered,
    LabelledVolume,
    answers_of,
    fit_confidence,
)
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.cases import Case
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.labels import map_labels
from cellseg3d.io.registry import read_labels, read_volume
from cellseg3d.simulate.components import CLASSES, LABEL_MAP
from cellseg3d.weights.prepare import prepare, test_cases
from cellseg3d.weights.recipe import FINAL, WeightsRecipe, read_recipe
from cellseg3d.weights.scores import model_of, unseen
from cellseg3d.weights.training import Part


def confidence_of(
    recipe: WeightsRecipe, parts: Sequence[Part], datalist: Path
) -> dict[str, Any] | None:
    """Return the temperature and the expected Dice of a bundle's weights.

    The volumes are those that each part is scored on, which it was not trained on.

    Returns
    -------
    dict or None
        What `cellseg3d.calibration.confidence.fit_confidence` returns; None for a
        target of borders or links, whose probabilities objects are made from.
    """
    if recipe.target != "classes":
        return None
    cases = load_datalist(datalist)
    answers: list[Answered] = []
    for part in parts:
        if part.has_weights:
            found = list(unseen(recipe, part, cases))
            volumes = volumes_of(found, recipe)
            answers += answers_of(model_of(part, recipe), volumes, len(found))
    return fit_confidence(answers, cases.classes) if answers else None


def calibrate_shipped(name: str, out: Path, data: Path | None) -> dict[str, Any]:
    """Fit the temperature of the weights that a bundle ships, without training.

    The result goes into the record of the weights, from which the bundle's metadata
    are assembled.

    Parameters
    ----------
    name : str
        The name of the bundle.
    out : Path
        Folder for the prepared data.
    data : Path or None
        Folder of the labelled volumes.

    Raises
    ------
    ConfigError
        If the bundle ships no weights, or its target is not the classes of voxels, or
        there are no volumes that its weights have not seen.
    """
    configs = configs_dir()
    recipe, bundle = read_recipe(configs, name), find_bundle(name)
    record = read_record(configs.parent, name)
    if record is None:
        raise ConfigError(f"{name}: ships no weights; train them first")
    if recipe.target != "classes":
        raise ConfigError(
            f"{name}: learns {recipe.target}, whose probabilities objects are made "
            "from, so they are left as they are; only a network of classes has a "
            "temperature"
        )
    final = Part(FINAL, None, bundle, 0)
    model = model_of(final, recipe)
    if recipe.simulated:
        found = list(test_cases(recipe, out / "data" / "test"))
    else:
        cases = load_datalist(prepare(recipe, data, out / "data"))
        found = list(unseen(recipe, final, cases))
    answers = answers_of(model, volumes_of(found, recipe), len(found))
    if not answers:
        raise ConfigError(
            f"{name}: its weights were trained on all volumes, and were scored by "
            "trainings that leave some out; run `cellseg3d bundle train-weights "
            f"{name} --score-only` where these trainings are"
        )
    values = {**record, KEY: fit_confidence(answers, model.classes)}
    path = record_path(configs.parent, name)
    write_text(path, json.dumps(values, indent=1) + "\n")
    return dict(values[KEY])


def volumes_of(
    found: Sequence[tuple[str, Case]], recipe: WeightsRecipe
) -> Iterator[LabelledVolume]:
    """Read volumes one at a time; simulated ones are grouped by their condition."""
    classes = recipe.classes or CLASSES
    renaming = recipe.label_map or (LABEL_MAP if recipe.simulated else None)
    for condition, case in found:
        labels = read_labels(case.label or "")
        truth = map_labels(labels.read(), renaming, len(classes), labels.name)
        group = condition if recipe.simulated else case.group
        yield LabelledVolume(case.name, group, read_volume(case.image), truth)

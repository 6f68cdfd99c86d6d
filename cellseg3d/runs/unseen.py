"""Find the validation volumes that none of several models was trained on."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.splits import training_fold
from cellseg3d.datasets.volumes import LoadedCase, load_cases

logger = logging.getLogger(__name__)


def training_of(model: TrainedModel) -> tuple[str | None, int | str | None]:
    """Return data set and fold of a model's training; (None, 0) if unknown."""
    path = model.path / "configs" / "train.json"
    config = read_config(path) if path.is_file() else {}
    place = str(config.get("dataset_dir", "$"))
    known = None if place.startswith(("@", "$")) else place
    return known, config.get("fold", 0)


def unseen_cases(
    models: Sequence[TrainedModel], data: Path | None = None, fold: str | None = None
) -> list[LoadedCase]:
    """Return the labelled validation volumes that no model was trained on.

    Test cases of the datalist are left out.

    Parameters
    ----------
    models : sequence of TrainedModel
        The models.
    data : Path, optional
        A datalist or folder; the data of the first model's training when None.
    fold : str, optional
        The fold; that of the first model's training when None.

    Raises
    ------
    ConfigError
        If the first model does not record its data, or if every volume was used to
        train some model.
    """
    known, chosen = training_of(models[0])
    place = data or (None if known is None else Path(known))
    if place is None:
        message = (
            f"{models[0].path}: does not record its training data; give `data` "
            "DATALIST for validation volumes, or --no-fit for equal weights"
        )
        raise ConfigError(message)
    datalist = load_datalist(place)
    if fold is not None:
        chosen = int(fold) if fold.isdigit() else fold
    held = training_fold(datalist, chosen).validation
    first = models[0]
    edges = first.spacing_um.zyx if first.resampled and first.spacing_um else None
    cases = load_cases(list(held), datalist, first.intensity, spacing_um=edges)
    seen = {content: model for model in models for content in trained_on(model.path)}
    free = [case for case in cases if case.content not in seen]
    for case in cases:
        if case.content in seen:
            name = seen[case.content].name
            logger.warning(
                "%s: is left out, because %s was trained on it", case.name, name
            )
    if not free:
        names = [case.name for case in cases]
        message = (
            f"{datalist.where}: each of the validation volumes {names} was used to "
            "train some member; train all members on one fold and give it as `fold`, "
            "or use --no-fit"
        )
        raise ConfigError(message)
    return free


def trained_on(folder: Path) -> set[str]:
    """Return the content hashes of the volumes that a run or bundle was trained on."""
    path = folder / "run.json"
    if path.is_file():
        data = json.loads(path.read_text(encoding="utf-8")).get("data", {})
        return {data["content"][name] for name in data.get("training", ())}
    metadata = read_config(folder / "configs" / "metadata.json")
    return {
        content
        for member in metadata.get("fused_from", ())
        for content in member["trained_on"]
    }

"""Make the weights of a bundle that fuses the networks of other bundles."""

import json
from pathlib import Path

from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.resolve import build, resolve_config
from cellseg3d.calibration.source_fit import settle_fusion
from cellseg3d.core.atomic import write_text
from cellseg3d.datasets.volumes import load_fold
from cellseg3d.runs.folder import create_run
from cellseg3d.runs.options import TrainOptions
from cellseg3d.runs.record import NAME, git_commit, machine
from cellseg3d.training.model_files import ModelFiles
from cellseg3d.weights.recipe import WeightsRecipe

# The axes that 2D and 2.5D members sweep.
AXES = "zyx"


def fuse_members(
    recipe: WeightsRecipe, bundle: Path, datalist: Path, run: Path
) -> None:
    """Write a run that fuses the networks of the bundles that a recipe names.

    The weight of each source for each class is fitted on the validation cases.

    Parameters
    ----------
    recipe : WeightsRecipe
        A recipe whose `members` names a bundle with weights for each member of
        `bundle`.
    bundle : Path
        The bundle of several networks.
    datalist : Path
        The datalist of the data to fit the weights on.
    run : Path
        The folder to write, which is empty or does not exist.

    Raises
    ------
    ConfigError
        If a bundle has no weights.
    ArchitectureError
        If a bundle's network differs from the member's.
    """
    models = {name: load_model(other) for name, other in recipe.members.items()}
    path = create_run(bundle, datalist, run, TrainOptions(fold="none"))
    config = resolve_config(path, only=("network_def", "facts", "intensity"))
    network = build(config["network_def"], path)
    for name, model in models.items():
        network.members[name].network.load_state_dict(model.network.state_dict())
    facts = build(config["facts"], path)
    files = ModelFiles(run / "models", network, ModelFacts.parse(facts))
    files.save_model(0, None)
    cases = load_fold(datalist, None, intensity=build(config["intensity"], path))
    record = {
        "state": "completed",
        "members": {name: model.sha256 for name, model in models.items()},
        "git_commit": git_commit(),
        "machine": machine(),
        "data": {
            "datalist": str(datalist),
            "training": [case.name for case in cases.training],
            "content": cases.hashes,
        },
    }
    write_text(run / NAME, json.dumps(record, indent=1) + "\n")
    settle_fusion(run, cases.validation, AXES)

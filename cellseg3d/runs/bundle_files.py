"""Write the files of a run, or of another bundle that gets weights of its own."""

import shutil
from pathlib import Path

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import Config, prune
from cellseg3d.bundle.metadata import NOT_STATED, build_metadata
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.core.atomic import write_text

# Keys whose values are the same in training, inference and evaluation.
SHARED = ("facts", "spec", "window", "intensity", "network_def")
# Keys of a bundle's metadata that tell of its weights.
_OF_WEIGHTS = ("score", "weights_sha256", "confidence")


def write_bundle(
    out: Path,
    bundle: Path,
    files: dict[str, Config],
    train: Config,
    facts: ModelFacts,
    modality: str = NOT_STATED,
) -> None:
    """Write a bundle's files from a resolved training config.

    What the old bundle's metadata and card say of its weights (data, scores, hash) is
    left out, because the new bundle gets other weights.

    Parameters
    ----------
    out : Path
        The folder of the new bundle or run.
    bundle : Path
        The bundle whose licence and logging config are copied.
    files : dict of str to dict
        The configs of `bundle`, by name.
    train : dict
        The new training config; its shared keys go to inference and evaluation too.
    facts : ModelFacts
        Classes, spacing and unit of the data.
    modality : str
        How the images are made, such as "electron microscopy".
    """
    metadata = _without_weights(files["metadata"])
    title = str(metadata["description"]).split(";")[0]
    name = str(metadata["name"])
    shared = {key: train[key] for key in SHARED}
    written = {
        "inference": prune({**files["inference"], **shared}),
        "evaluate": prune(
            {
                **files["evaluate"],
                **shared,
                "dataset_dir": train["dataset_dir"],
                "fold": train["fold"],
                **{key: train[key] for key in ("target",) if key in train},
            }
        ),
        "metadata": build_metadata(
            metadata, train["spec"], facts, name, title, modality
        ),
        "train": train,
    }
    (out / "configs").mkdir(parents=True, exist_ok=True)
    for file, config in written.items():
        write_config(out / "configs" / f"{file}.json", config)
    for extra in ("configs/logging.conf", "LICENSE"):
        if (bundle / extra).is_file():
            shutil.copyfile(bundle / extra, out / extra)
    for folder in ("docs", "models"):
        (out / folder).mkdir(exist_ok=True)
    write_text(out / "docs" / "README.md", _card(name, title, facts))


def _without_weights(metadata: Config) -> Config:
    """Return a bundle's metadata without what they say of its weights."""
    kept = {key: value for key, value in metadata.items() if key not in _OF_WEIGHTS}
    return {
        **kept,
        "version": "0.1.0",
        "changelog": {"0.1.0": "first version"},
        "data_source": NOT_STATED,
        "eval_metrics": {},
    }


def _card(name: str, title: str, facts: ModelFacts) -> str:
    """Return the text about a bundle that is trained by its user."""
    return (
        f"# {name}\n\n{title}. Classes: {', '.join(facts.classes)}.\n\n"
        f"The settings come from the bundle {name}; the weights do not, so the scores "
        "on that bundle's card do not hold for them.\n"
    )

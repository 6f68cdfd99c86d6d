"""Build one bundle from several trained ones; it averages what they predict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg3d.bundle.compose import Config, prune, read_config
from cellseg3d.bundle.metadata import read_modality
from cellseg3d.bundle.model import TrainedModel, load_model, networks_of
from cellseg3d.bundle.model_facts import ModelFacts, stored_facts
from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.bundle.windows import members_in
from cellseg3d.calibration.source_fit import KEYS, settle_fusion
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.models.fused_networks import FusedNetworks, Member
from cellseg3d.prediction.lattice import check_axes
from cellseg3d.runs.bundle_files import write_bundle
from cellseg3d.runs.folder import configs_of
from cellseg3d.runs.unseen import trained_on, training_of, unseen_cases
from cellseg3d.training.model_files import ModelFiles

# The bundle whose training and inference configs a fused bundle copies.
PATTERN = "cell_tomo_triaxial"
_NETWORK = "cellseg3d.bundle.model_facts.network_for"
_MEMBER = "cellseg3d.bundle.model_facts.member_for"


@dataclass(frozen=True)
class CombineOptions:
    """Options for fusing bundles.

    Parameters
    ----------
    data : Path, optional
        A datalist or folder; the data of the first member's training when None.
    fold : str, optional
        The fold; that of the first member's training when None.
    axes : str
        Axes along which 2D and 2.5D networks predict, such as "zyx".
    fit : bool
        Whether to fit the weights of the sources on the validation volumes; otherwise
        all sources have equal weights.
    """

    data: Path | None = None
    fold: str | None = None
    axes: str = "zyx"
    fit: bool = True


def combine_bundles(
    members: Sequence[str | Path], out: Path, options: CombineOptions | None = None
) -> dict[str, Any]:
    """Write a bundle that fuses the networks of trained bundles and runs.

    Parameters
    ----------
    members : sequence of str or Path
        Bundles or runs with weights, and with the same classes and intensity scaling.
        All networks are taken from one that is itself fused.
    out : Path
        Folder of the new bundle; it must be empty or not exist yet.
    options : CombineOptions, optional
        Data, axes and whether to fit weights.

    Returns
    -------
    dict
        The fitted weights and what they gain, from `source_fit.settle_fusion`; empty
        without a fit.

    Raises
    ------
    ConfigError
        If classes or intensity scaling of the members differ, or if there is no volume
        to fit on.
    EnvironmentFault
        If the folder is not empty.
    """
    wanted = options or CombineOptions()
    axes = check_axes(wanted.axes)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EnvironmentFault(f"{out}: is not empty; choose another folder")
    models = [load_model(member) for member in members]
    _check_alike(models)
    cases = unseen_cases(models, wanted.data, wanted.fold) if wanted.fit else []
    blocks: dict[str, Config] = {}
    networks: dict[str, Member] = {}
    for model in models:
        parts = networks_of(model)
        for part, block in zip(parts, _blocks(model, axes), strict=True):
            name = _free_name(part.name.replace(".", "_"), blocks)
            blocks[name] = block
            networks[name] = Member(part.network, part.spec, block["window"])
    facts = _write(out, models, blocks, wanted)
    files = ModelFiles(out / "models", FusedNetworks(networks), facts)
    files.save_model(0, None)
    found = settle_fusion(out, cases) if wanted.fit else {}
    _write_readme(out, models, found)
    return found


def _check_alike(models: Sequence[TrainedModel]) -> None:
    first = models[0]
    for model in models[1:]:
        if model.classes != first.classes or model.intensity != first.intensity:
            message = (
                f"{model.path}: has classes {list(model.classes)}, intensity "
                f"{model.intensity}, and {first.path} has {list(first.classes)}, "
                f"{first.intensity}; fuse networks with the same classes and scaling, "
                "or give both to predict as --bundle A --bundle B"
            )
            raise ConfigError(message)


def _blocks(model: TrainedModel, axes: str) -> list[Config]:
    """Return the config of each network of a model, as a member of a fused bundle."""
    config = read_config(model.path / "configs" / "inference.json")
    inner = members_in(config)
    given = list(inner.values()) or [
        {**config["network_def"], "spec": config["spec"], "window": config["window"]}
    ]
    blocks = []
    for block in given:
        if block.get("_target_") not in (_NETWORK, _MEMBER):
            message = (
                f"{model.path}: network_def is {block.get('_target_')!r}; expected "
                f"{_NETWORK!r}; give the bundle to predict with --bundle instead"
            )
            raise ConfigError(message)
        spec = config["spec"] if block["spec"] == "@spec" else block["spec"]
        window = {k: v for k, v in block.get("window", {}).items() if k not in KEYS}
        if spec["spatial_dims"] == 2 and not inner:
            window["axes"] = axes
        new = {"_target_": _MEMBER, "spec": spec, "facts": "@facts", "window": window}
        blocks.append({**block, **new})
    return blocks


def _free_name(name: str, taken: dict[str, Config]) -> str:
    tries = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
    return next(each for each in tries if each not in taken)


def _write(
    out: Path,
    models: Sequence[TrainedModel],
    blocks: dict[str, Config],
    options: CombineOptions,
) -> ModelFacts:
    """Write the new bundle's configs and return its facts."""
    first = models[0]
    pattern = find_bundle(PATTERN)
    files = configs_of(pattern)
    spacing = None if first.spacing_um is None else first.spacing_um.zyx
    facts = stored_facts(first.path, ModelFacts(first.classes, spacing))
    deep = [model.spec for model in models if model.spec.spatial_dims == 3]
    place, fold = training_of(first)
    if options.data is not None:
        place = str(options.data.resolve())
    train = {
        **files["train"],
        "facts": {
            "_target_": "cellseg3d.bundle.model_facts.ModelFacts",
            **facts.as_dict(),
        },
        "network_def": {**files["train"]["network_def"], "members": blocks},
        "intensity": read_config(first.path / "configs" / "inference.json")[
            "intensity"
        ],
        "fold": fold if options.fold is None else options.fold,
    }
    if place is not None:
        train["dataset_dir"] = place
    if deep:
        train["spec"] = {**train["spec"], "patch_shape": list(deep[0].patch_shape)}
    metadata = {
        **files["metadata"],
        "name": out.name,
        "description": f"{', '.join(blocks)} fused; ",
        "fused_from": [
            {
                "name": model.name,
                "sha256": model.sha256,
                "trained_on": sorted(trained_on(model.path)),
            }
            for model in models
        ],
    }
    files["metadata"] = metadata
    write_bundle(out, pattern, files, prune(train), facts, _modality(models))
    return facts


def _modality(models: Sequence[TrainedModel]) -> str:
    """Return how the images are made that the members are for, each kind once."""
    stated = [read_modality(model.path) for model in models]
    return ", ".join(dict.fromkeys(stated))


def _write_readme(
    out: Path, models: Sequence[TrainedModel], found: dict[str, Any]
) -> None:
    lines = [f"# {out.name}", "", "Fused by `cellseg3d bundle combine` from", ""]
    lines += [
        f"- {model.name}, sha256 of its weights {model.sha256}" for model in models
    ]
    lines.append("")
    if "weights" in found:
        lines += [
            f"Weights fitted on {', '.join(found['volumes'])}: {found['sentence']}.",
            "",
            f"| source | {' | '.join(models[0].classes)} |",
            "| --- |" + " --- |" * len(models[0].classes),
        ]
        for name, row in found["weights"].items():
            numbers = " | ".join(f"{weight:.3f}" for weight in row)
            lines.append(f"| {name} | {numbers} |")
    else:
        lines.append("All sources have equal weights.")
    lines += [
        "",
        "```",
        "cellseg3d predict VOLUME --bundle FOLDER --out RESULTS",
        "python -m monai.bundle run inferring --config_file configs/inference.json "
        "--dataset_dir VOLUMES",
        "```",
        "`run training` trains all members again, in this folder; `--pretrained "
        "models/model.safetensors` starts from these weights.",
        "",
        "This bundle is intended for research. Check its scores on your own data.",
    ]
    path = out / "docs" / "README.md"
    path.parent.mkdir(exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")

"""Load a trained model from a bundle or run folder without running its code."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pydoc import locate
from typing import Any

from torch import nn

from cellseg3d.bundle.compose import Config, read_config
from cellseg3d.bundle.model_facts import MODELS, WEIGHTS, ModelFacts
from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.bundle.trust import FETCHES
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.old_names import current_name
from cellseg3d.core.spacing import Spacing
from cellseg3d.models.checkpoint import Weights, load_weights
from cellseg3d.models.fused_networks import FusedNetworks, Member

logger = logging.getLogger(__name__)
# What a model's own blocks may build; nothing here reads, writes or runs anything.
ALLOWED = (
    "cellseg3d.bundle.model_facts.ModelFacts",
    "cellseg3d.bundle.model_facts.network_for",
    "cellseg3d.bundle.members.member_for",
    "cellseg3d.datasets.intensity.IntensityScale",
    "cellseg3d.models.unet.build_network",
)
# And networks themselves: classes of these packages that are torch modules.
NETWORKS = ("cellseg3d.models.", "monai.networks.", "torch.nn.")
_CANDIDATES = (WEIGHTS, "last.safetensors", "model.pt")


@dataclass(frozen=True)
class TrainedModel:
    """A network with its weights, and all that its training fixed.

    Parameters
    ----------
    name : str
        The bundle's name.
    path : Path
        Where it was loaded from.
    network : Module
        Float32, in evaluation mode, on the CPU; (N, C, ...) in, logits (N, K, ...)
        out.
    spec : InputSpec
    classes : tuple of str
        Names of the K classes, background first.
    intensity : IntensityScale
        How raw intensities are scaled.
    spacing_um : Spacing or None
        Voxel edges of the training volumes; None when unknown.
    window : mapping
        Core, halo, axes of the windows.
    sha256 : str
        Hash of the weights.
    warnings : tuple of str
        What the user should be told.
    members : tuple of TrainedModel
        The networks of a bundle that fuses several, each with its own spec and
        window; empty for one network.
    single_slices : bool
        Whether every volume of the training was one slice.
    resampled : bool
        Whether the training volumes were brought to `spacing_um`.
    """

    name: str
    path: Path
    network: nn.Module
    spec: InputSpec
    classes: tuple[str, ...]
    intensity: Any
    spacing_um: Spacing | None
    window: Mapping[str, Any]
    sha256: str
    warnings: tuple[str, ...] = ()
    members: tuple["TrainedModel", ...] = ()
    single_slices: bool = False
    resampled: bool = False


def load_model(place: str | Path) -> TrainedModel:
    """Return the trained model of a bundle or run folder.

    Only the blocks that describe the network and its input are built, from names on
    a short list; expressions are refused; weights are tensors alone.

    Parameters
    ----------
    place : str or Path
        A folder, or the name of a bundle that came along.

    Raises
    ------
    ConfigError
        If the folder is no bundle, or names code that is not on the list.
    InputError
        If it holds no weights yet, or they cannot be used.

    Examples
    --------
    >>> import cellseg3d
    >>> cells = cellseg3d.simulate_dataset("loaded_cells", 2, 24)
    >>> short = {"train::dataset::samples": 2}
    >>> options = cellseg3d.TrainOptions(epochs=1, settings=short, progress=False)
    >>> run = cellseg3d.train("cell_tomo_unet2d", cells, "loaded", options)
    >>> cellseg3d.load_model(run).classes
    ('background', 'cytoplasm', 'nucleus', 'mitochondrion')
    """
    path = find_bundle(place)
    config = read_config(path / "configs" / "inference.json")
    metadata = read_config(path / "configs" / "metadata.json")
    weights = _weights(path)
    stored = weights.metadata.get("facts")
    if stored is not None:
        config["facts"] = stored
    elif "default_facts" in config:
        config["facts"] = config["default_facts"]
    facts = ModelFacts.parse(_build(config, "facts", path))
    config["facts"] = facts.as_dict()
    network = _build(config, "network_def", path)
    if not isinstance(network, nn.Module):
        message = f"{path}: network_def builds a {type(network).__name__}, no network"
        raise ConfigError(message)
    checked = load_weights(weights.path, network)
    network.load_state_dict(checked.tensors)
    spacing = facts.spacing_um
    model = TrainedModel(
        name=str(metadata.get("name", path.name)),
        path=path,
        network=network.eval(),
        spec=InputSpec.parse(_build(config, "spec", path)),
        classes=facts.classes,
        intensity=_build(config, "intensity", path),
        spacing_um=None if spacing is None else Spacing.of(spacing),
        window=_build(config, "window", path),
        sha256=weights.sha256,
        warnings=weights.warnings,
        single_slices=facts.single_slices,
        resampled=facts.resampled,
    )
    return replace(model, members=_members(model))


def _members(model: TrainedModel) -> tuple[TrainedModel, ...]:
    """Return the networks of a model that fuses several, as models of their own."""
    if not isinstance(model.network, FusedNetworks):
        return ()
    return tuple(
        replace(
            model,
            name=name,
            network=member.network,
            spec=member.spec,
            window=member.window,
            warnings=(),
        )
        for name, member in model.network.members.items()
        if isinstance(member, Member)
    )


def _weights(path: Path) -> Weights:
    for name in _CANDIDATES:
        file = path / MODELS / name
        if file.is_file() or file.with_name(f"{name}.prev").is_file():
            return load_weights(file)
    message = (
        f"{path / MODELS}: holds no weights; train first: cellseg3d train --bundle "
        f"{path.name} --data DATALIST --out RUN, then predict with --bundle RUN"
    )
    raise InputError(message)


def _build(config: Config, key: str, path: Path) -> Any:  # noqa: ANN401
    """Return what one id of a config describes."""
    if key not in config:
        raise ConfigError(f"{path}: configs/inference.json has no {key!r}")
    return _value(config[key], config, path, depth=0)


def _value(value: Any, config: Config, path: Path, depth: int) -> Any:  # noqa: ANN401
    if depth > 50:
        raise ConfigError(f"{path}: configs/inference.json refers to itself")
    if isinstance(value, str):
        return _text(value, config, path, depth)
    if isinstance(value, list):
        return [_value(item, config, path, depth + 1) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {
        key: _value(item, config, path, depth + 1)
        for key, item in value.items()
        if key != "_target_"
    }
    if "_target_" not in value:
        return arguments
    for key, given in arguments.items():
        if FETCHES.search(key) and given:
            message = (
                f"{path}: {value['_target_']}: the argument {key}={given!r} fetches "
                "files; leave it out; nothing was run"
            )
            raise ConfigError(message)
    found = _allowed(str(value["_target_"]), path)
    try:
        return found(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {value['_target_']}: {error}") from error


def _allowed(target: str, path: Path) -> Any:  # noqa: ANN401
    target = current_name(target)
    found = locate(target) if target.startswith((*ALLOWED, *NETWORKS)) else None
    is_network = isinstance(found, type) and issubclass(found, nn.Module)
    if found is None or not (target in ALLOWED or is_network):
        message = (
            f"{path}: _target_ {target!r} is not among what a model may be built of: "
            f"{', '.join(ALLOWED)}, or a network; nothing was run"
        )
        raise ConfigError(message)
    return found


def _text(value: str, config: Config, path: Path, depth: int) -> Any:  # noqa: ANN401
    if value.startswith(("$", "%")):
        message = f"{path}: the expression {value!r} is not run; write out its value"
        raise ConfigError(message)
    if not value.startswith("@"):
        return value
    node: Any = config
    for name in value[1:].replace("#", "::").split("::"):
        if not isinstance(node, Mapping) or name not in node:
            raise ConfigError(f"{path}: {value!r} refers to nothing")
        node = node[name]
    return _value(node, config, path, depth + 1)


def networks_of(model: TrainedModel) -> tuple[TrainedModel, ...]:
    """Return a bundle's networks: its members, or itself."""
    return model.members or (model,)

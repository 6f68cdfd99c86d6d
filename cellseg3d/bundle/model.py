"""Load a trained model from a bundle or run folder without running its code."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.resolve import build, resolve_config
from cellseg3d.bundle.shipped import MODELS, WEIGHTS, find_bundle, no_weights
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.models.checkpoint import Weights, check_names, load_weights
from cellseg3d.models.fused_networks import FusedNetworks, Member

logger = logging.getLogger(__name__)
_T = TypeVar("_T")
# What describes a network and its input, and is all that prediction builds.
_BLOCKS = ("facts", "spec", "intensity", "window", "network_def")
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
    likeness : mapping or None
        What the training volumes look like (`cellseg3d.datasets.likeness`); None when
        it was not measured.
    resampled : bool
        Whether the training volumes were brought to `spacing_um`.
    decoder : mapping or None
        How objects are found in its probabilities, with the numbers of its training
        objects, as ``models/decoder.json`` of a run holds it.
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
    likeness: Mapping[str, Any] | None = None
    resampled: bool = False
    decoder: Mapping[str, Any] | None = None


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
    where = path / "configs" / "inference.json"
    metadata = read_config(path / "configs" / "metadata.json")
    weights = _weights(path)
    blocks = resolve_config(where, _facts_in(where, weights), only=_BLOCKS)
    built = {key: build(blocks[key], where) for key in _BLOCKS[:-1]}
    facts = _parsed(ModelFacts.parse, built["facts"], "facts", where)
    spec = _parsed(InputSpec.parse, built["spec"], "spec", where)
    intensity, window = built["intensity"], built["window"]
    _expect(intensity, IntensityScale, "intensity", where)
    _expect(window, Mapping, "window", where)
    network = build(blocks["network_def"], where)
    _expect(network, nn.Module, "network_def", where)
    check_names(weights.path, weights.tensors, network)
    network.load_state_dict(weights.tensors)
    spacing = facts.spacing_um
    model = TrainedModel(
        name=str(metadata.get("name", path.name)),
        path=path,
        network=network.eval(),
        spec=spec,
        classes=facts.classes,
        intensity=intensity,
        spacing_um=None if spacing is None else Spacing.of(spacing),
        window=window,
        sha256=weights.sha256,
        warnings=weights.warnings,
        single_slices=facts.single_slices,
        likeness=weights.metadata.get("likeness"),
        resampled=facts.resampled,
        decoder=weights.metadata.get("decoder"),
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


def _facts_in(config: Path, weights: Weights) -> dict[str, Any]:
    """Return the setting that puts the facts of a model in their place.

    Those that travel with the weights count; else those that its bundle began with.
    """
    said = read_config(config)
    stored = weights.metadata.get("facts", said.get("default_facts"))
    return {} if stored is None or "facts" not in said else {"facts": stored}


def _weights(path: Path) -> Weights:
    for name in _CANDIDATES:
        file = path / MODELS / name
        if file.is_file() or file.with_name(f"{name}.prev").is_file():
            return load_weights(file)
    raise InputError(no_weights(path))


def _expect(found: Any, kind: type, key: str, where: Path) -> None:  # noqa: ANN401
    """Refuse a block that builds something else than what it stands for."""
    if not isinstance(found, kind):
        message = (
            f"{where}: {key} builds a {type(found).__name__}; expected a "
            f"{kind.__name__}; copy the bundle again"
        )
        raise ConfigError(message)


def _parsed(parse: Callable[[Any], _T], values: Any, key: str, where: Path) -> _T:  # noqa: ANN401
    """Return what `parse` makes of a block; its error is one line with the file."""
    try:
        return parse(values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {key}: {error}") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        message = (
            f"{where}: {key} is {values!r:.200}, which makes no sense ({error}); copy "
            "the bundle again or train anew"
        )
        raise ConfigError(message) from error


def networks_of(model: TrainedModel) -> tuple[TrainedModel, ...]:
    """Return a bundle's networks: its members, or itself."""
    return model.members or (model,)

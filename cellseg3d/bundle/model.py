"""Load a trained model from the folder of a bundle or run without running its code."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.confidence import KEY as CONFIDENCE
from cellseg3d.bundle.confidence import Confidence
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
# The blocks that describe a network and its input. Prediction builds no others.
_BLOCKS = ("facts", "spec", "intensity", "window", "network_def")
_CANDIDATES = (WEIGHTS, "last.safetensors", "model.pt")


@dataclass(frozen=True)
class TrainedModel:
    """A network with its weights and everything that its training fixed.

    Parameters
    ----------
    name : str
        The bundle's name.
    path : Path
        The folder that it was loaded from.
    network : Module
        The network in float32 and evaluation mode, on the CPU. It takes (N, C, ...)
        and gives logits (N, K, ...).
    spec : InputSpec
    classes : tuple of str
        Names of the K classes, background first.
    intensity : IntensityScale
        How raw intensities are scaled.
    spacing_um : Spacing or None
        Voxel edges of the training volumes, in um; None if they are unknown.
    window : mapping
        Settings of the windows; see `cellseg3d.prediction.lattice.WindowSettings`.
    sha256 : str
        Hash of the weights.
    warnings : tuple of str
        Sentences that the user should read.
    members : tuple of TrainedModel
        The networks of a bundle that fuses several, each with its own spec and
        window; empty for one network.
    single_slices : bool
        Whether every training volume was one slice.
    likeness : mapping or None
        What the training volumes look like (`cellseg3d.datasets.likeness`); None if it
        was not measured.
    resampled : bool
        Whether the training volumes were resampled to `spacing_um`.
    adapts : bool
        Whether the normalisation is measured on every volume, and not only on one that
        looks different (`cellseg3d.prediction.adapt`).
    decoder : mapping or None
        How objects are found in the probabilities, in the form of a run's
        ``models/decoder.json``.
    spacing_told : bool
        Whether the user gave `spacing_um` because the training files had no spacing.
        Volumes without a spacing are then taken to have it.
    channels : tuple of str
        Names of the channels of the training images, in the order that the network
        sees; empty for one channel without a name.
    label_meaning : mapping
        What the values of the training labels meant: their kind and label map.
    description : str
        One line about what it segments in which images; empty if it is not stated.
    confidence : Confidence or None
        The temperature of its probabilities and what Dice to expect; None if that was
        not measured.
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
    adapts: bool = False
    decoder: Mapping[str, Any] | None = None
    spacing_told: bool = False
    channels: tuple[str, ...] = ()
    label_meaning: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    confidence: Confidence | None = None


def load_model(place: str | Path) -> TrainedModel:
    """Return the trained model of a bundle or run.

    The config's code is not run: only classes on a short list are built, and
    expressions are refused. The file of the weights holds nothing but tensors.

    Parameters
    ----------
    place : str or Path
        A folder, or the name of a bundle of the package.

    Returns
    -------
    TrainedModel

    Raises
    ------
    ConfigError
        If the folder is not a bundle, or its config names code that is not on the list.
    InputError
        If it holds no weights, or the weights do not fit the network.

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
        adapts=bool(weights.metadata.get("adapts", False)),
        decoder=weights.metadata.get("decoder"),
        spacing_told=facts.spacing_told,
        channels=facts.channels,
        label_meaning=facts.meaning,
        description=str(metadata.get("description", "")),
        confidence=_confidence(metadata, path / "configs" / "metadata.json"),
    )
    return replace(model, members=_members(model))


def _confidence(metadata: Mapping[str, Any], where: Path) -> Confidence | None:
    found = metadata.get(CONFIDENCE)
    return None if found is None else Confidence.parse(found, where)


def _members(model: TrainedModel) -> tuple[TrainedModel, ...]:
    """Return the networks of a model that fuses several, each as a model."""
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
    """Return the override that sets the facts of a model.

    The facts stored with the weights are taken, or else the bundle's default facts.
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
    """Refuse a block that does not build what its key stands for."""
    if not isinstance(found, kind):
        message = (
            f"{where}: {key} builds a {type(found).__name__}, but a {kind.__name__} "
            "was expected; copy the bundle again"
        )
        raise ConfigError(message)


def _parsed(parse: Callable[[Any], _T], values: Any, key: str, where: Path) -> _T:  # noqa: ANN401
    """Return what `parse` makes of a block; an error names the file in one line."""
    try:
        return parse(values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {key}: {error}") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        message = (
            f"{where}: {key} is {values!r:.200}, which cannot be used ({error}); copy "
            "the bundle again, or train again"
        )
        raise ConfigError(message) from error


def networks_of(model: TrainedModel) -> tuple[TrainedModel, ...]:
    """Return the networks of a bundle: its members, or the model itself."""
    return model.members or (model,)

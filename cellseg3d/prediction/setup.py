"""Set up a prediction: make the pipeline of some networks on one volume."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from torch import nn

from cellseg3d.bundle.confidence import Confidence
from cellseg3d.bundle.model import TrainedModel, networks_of
from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.channels import fit_channels
from cellseg3d.datasets.likeness import unlike, volume_features
from cellseg3d.models.geometry import geometry_of
from cellseg3d.models.hardware import choose_hardware
from cellseg3d.models.prepared import PreparedNetwork
from cellseg3d.prediction.adapt import adapted, layers_of, windows_for
from cellseg3d.prediction.budget import within
from cellseg3d.prediction.field import Field, VolumeField
from cellseg3d.prediction.lattice import WindowSettings
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import Pipeline, fitted
from cellseg3d.prediction.rescale import without_unseen
from cellseg3d.prediction.source_weights import bundle_weights, fusion_of
from cellseg3d.prediction.sources import GPU_BYTES, RAM_BYTES, NetworkUse, Source
from cellseg3d.prediction.trial import prepare_for

_log = logging.getLogger(__name__)
# The user is warned of voxel edges that differ from the training's by more than this
# factor.
FAR = 1.5
# About how many bytes a process takes that has read a bundle.
PROCESS_BYTES = 3 * 2**28
# What is said of a volume to which a network is adapted.
ADAPTED = (
    ". The network's normalisation is measured on this volume; `adapt` off takes that "
    "of the training"
)


class OneNetwork(Protocol):
    """A network with its input and windows; bundles and their members have one each."""

    @property
    def name(self) -> str:
        """The name that messages and records give it."""

    @property
    def network(self) -> nn.Module:
        """The network, in float32 and evaluation mode.

        It takes (N, C, ...) and gives logits (N, K, ...).
        """

    @property
    def spec(self) -> InputSpec:
        """The description of its input."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the K classes, background first."""

    @property
    def window(self) -> Any:  # noqa: ANN401
        """The mapping that `WindowSettings.parse` reads: core, halo, axes and more."""


def set_up(
    volume: Volume,
    models: Sequence[TrainedModel],
    options: SegmentOptions,
    *,
    warn: bool = True,
) -> Pipeline:
    """Return the pipeline that `options` ask for, on one volume.

    Parameters
    ----------
    volume : Volume
        Raw intensities.
    models : sequence of TrainedModel
    options : SegmentOptions
    warn : bool
        Whether to warn the user if the volume is unlike those of the training. Where
        the same volume is set up again, the warning is not repeated.

    Raises
    ------
    ConfigError
        If no model is given, or the models' classes differ.
    AxisError
        If the volume does not have the channels that a network was trained on.
    """
    if not models:
        raise ConfigError("no `bundle` was given; expected at least one")
    names = [tuple(model.classes) for model in models]
    for model, classes in zip(models, names, strict=True):
        if classes != names[0]:
            message = (
                f"{model.name}: classes {list(classes)} differ from those of "
                f"{models[0].name}, {list(names[0])}; fuse bundles of the same classes"
            )
            raise ConfigError(message)
    bundles, unlike = [], []
    for model in models:
        seen = seen_by(volume, model)
        # Reading the volume for this is left out where nobody asks.
        asked = warn or options.adapt == "auto"
        differences = differences_of(seen, model) if asked else []
        unlike += differences
        adapts = _adapts(model, options.adapt, unlike=bool(differences))
        if warn:
            _warn(seen, model, differences, adapts=adapts)
        bundles.append(_checked_sources(seen, model, options, adapts=adapts))
    if options.axes is not None and options.fuse == "auto":
        # Learned weights belong to the bundle's own axes.
        options = replace(options, fuse="weighted")
    return replace(
        pipeline_of(bundles, options, volume.spacing),
        confidence=_confidence(models, options),
        calibrated=options.calibrated,
        unlike=tuple(dict.fromkeys(unlike)),
    )


def _confidence(
    models: Sequence[TrainedModel], options: SegmentOptions
) -> Confidence | None:
    """Return what was measured about a model's probabilities, if it holds here.

    It was measured on one model, predicted as its bundle says. Other axes, views or
    ways to fuse give other probabilities.
    """
    usual = options.axes is None and options.fuse == "auto" and options.adapt == "auto"
    if len(models) > 1 or options.tta or not usual:
        return None
    return models[0].confidence


def pipeline_of(
    bundles: Sequence[Sequence[Source]],
    options: SegmentOptions,
    spacing: Spacing | None,
) -> Pipeline:
    """Return the pipeline of the sources of some bundles, on one volume.

    Parameters
    ----------
    bundles : sequence of sequence of Source
        The sources of each bundle, all on the same volume.
    options : SegmentOptions
    spacing : Spacing or None
        The volume's voxel edges, in um.
    """
    pairs = [
        (view, row)
        for sources in bundles
        for source, row in zip(
            sources, bundle_weights(sources, options.fuse, spacing), strict=True
        )
        for view in (source.views(spacing) if options.tta else [source])
    ]
    used = [pair for pair in pairs if max(pair[1]) > 0]
    for source, weight in pairs:
        if max(weight) <= 0:
            _log.info("%s: is left out, because its learned weight is 0", source.name)
    count = used[0][0].classes
    fusion = fusion_of(options.fuse, [row for _, row in used])
    held = fusion.bytes_per_voxel(len(used), count)
    chosen, chunk = fitted([source for source, _ in used], held)
    pipeline = Pipeline(
        chosen, fusion, count, chunk, options.probs, options.uncertainty
    )
    on_gpu = chosen[0].network.hardware.device.type == "cuda"
    limit = options.max_vram if on_gpu else options.max_ram
    return pipeline if limit is None else within(pipeline, limit)


def sources_of(
    model: OneNetwork,
    field: Field,
    options: SegmentOptions,
    *,
    difference: bool = True,
    adapt: bool = False,
) -> list[Source]:
    """Return the sources of one network on a volume.

    Parameters
    ----------
    model : OneNetwork
        The network of a bundle, or one of its members.
    field : Field
        The scaled intensities of the volume.
    options : SegmentOptions
    difference : bool
        As for `acceleration.prepare.prepare`.
    adapt : bool
        Whether to measure the network's normalisation on the volume.
    """
    axes = options.axes or WindowSettings.parse(model.window, model.spec).axes
    network = model.network
    if adapt:
        windows = windows_for(field, network, model.spec, axes)
        device = choose_hardware(options.device, "float32").device
        network = adapted(network, windows, device=device)
    prepared = prepare_for(
        field, network, model.spec, axes, options, difference=difference
    )
    use = use_of(model, prepared, options)
    return replace(use, adapted=network is not model.network).sources(field)


def use_of(
    model: OneNetwork, network: PreparedNetwork, options: SegmentOptions
) -> NetworkUse:
    """Return a prepared network with the settings by which it is used.

    Parameters
    ----------
    model : OneNetwork
    network : PreparedNetwork
        The network of `model`, prepared.
    options : SegmentOptions
        Only axes, batch, skip_empty and the limits of memory are read.
    """
    window = WindowSettings.parse(model.window, model.spec)
    window = replace(
        window, axes=options.axes or window.axes, batch=options.batch or window.batch
    )
    geometry = geometry_of(model.network)
    return NetworkUse(
        model.name,
        network,
        model.spec,
        window,
        geometry.stride,
        len(model.classes),
        geometry.sees_window,
        options.skip_empty,
        window_bytes_of(network, options),
    )


def window_bytes_of(network: PreparedNetwork, options: SegmentOptions) -> int:
    """Return the bytes that a window of a network may take.

    They follow from the limits alone, not from what the process holds, so that a
    prediction that goes on, and its workers, take the same windows.
    """
    if network.hardware.device.type == "cuda":
        return options.max_vram or GPU_BYTES
    # Reading, sums and labels take a fifth or less.
    return max(RAM_BYTES, ((options.max_ram or 0) - PROCESS_BYTES) * 4 // 5)


def _checked_sources(
    seen: Volume, model: TrainedModel, options: SegmentOptions, *, adapts: bool
) -> list[Source]:
    """Return the sources of all networks of a bundle on a volume.

    Raises
    ------
    AxisError
        If the volume does not have the channels that a network was trained on.
    """
    field = VolumeField.measured(seen, model.intensity)
    found = []
    for network in networks_of(model):
        channels, spec = geometry_of(network.network).channels, network.spec
        # A fused network of volumes sees the image's channels; others see stacks.
        if channels != spec.in_channels or spec.image_channels != seen.channels:
            message = (
                f"{network.name}: its network takes {channels} channels, but its spec "
                f"gives {spec.in_channels}, from {spec.image_channels} of the image; "
                f"copy the bundle again"
            )
            raise AxisError(message)
        sources = sources_of(network, field, options, adapt=adapts)
        use = sources[0].use
        if use.skip_empty and use.window.empty_below is None:
            _log.warning(
                "%s: no window is left out, because its bundle has no threshold "
                "(window::empty_below) for `skip_empty`",
                network.name,
            )
        if use.sees_window and any(source.lattice.tiled for source in sources):
            _log.warning(
                "%s: its normalisation depends on the whole window, so windows overlap "
                "and are blended; labels depend a little on where windows lie",
                network.name,
            )
        found += sources
    return found


def seen_by(volume: Volume, model: TrainedModel) -> Volume:
    """Return the channels of a volume that a model sees, in the order of its training.

    Raises
    ------
    AxisError
        If the volume does not have them.
    """
    count = networks_of(model)[0].spec.image_channels
    return fit_channels(volume, model.channels, count, model.name)


def differences_of(volume: Volume, model: TrainedModel) -> list[str]:
    """Return in words how a volume looks unlike those of the training, if it does."""
    if model.likeness is None:
        return []
    return unlike(volume_features(volume, model.intensity), model.likeness)


def _adapts(model: TrainedModel, adapt: str, *, unlike: bool) -> bool:
    """Return whether a model's normalisation is measured on a volume.

    Parameters
    ----------
    model : TrainedModel
    adapt : {"auto", "on", "off"}
        As in `SegmentOptions`.
    unlike : bool
        Whether the volume looks unlike those of the training.
    """
    wanted = adapt == "on" or (adapt == "auto" and (unlike or model.adapts))
    return wanted and any(layers_of(one.network) for one in networks_of(model))


def _warn(
    volume: Volume, model: TrainedModel, differences: Sequence[str], *, adapts: bool
) -> None:
    """Warn the user of what is unusual about a model, and about a volume for it."""
    for warning in model.warnings:
        _log.warning("%s: %s", model.name, warning)
    check_spacing(volume, model)
    if not differences:
        return
    _log.warning(
        "%s: does not look like what %s was trained on: %s; check the labels, read "
        "the card in %s, give the right voxel edges with `spacing_um`, or train on "
        "a few labelled slices of your own%s",
        volume.name,
        model.name,
        " and ".join(differences),
        model.path / "docs" / "README.md",
        ADAPTED if adapts else "",
    )


def check_spacing(volume: Volume, model: TrainedModel) -> None:
    """Warn the user if a volume's voxels differ much in size from the training's."""
    if model.spacing_um is None:
        return
    if volume.spacing is None:
        _log.warning(
            "%s: its voxel edges are unknown, so it is predicted as it is; %s was "
            "trained on voxels of %s; pass `spacing_um`",
            volume.name,
            model.name,
            model.spacing_um,
        )
        return
    trained = without_unseen(volume.spacing, model.spacing_um, [model])
    pairs = zip(volume.spacing.zyx, trained.zyx, strict=True)
    if any(not 1 / FAR <= here / there <= FAR for here, there in pairs):
        _log.warning(
            "%s: has voxels of %s, but %s was trained on voxels of %s; pass `rescale` "
            "to resample it",
            volume.name,
            volume.spacing,
            model.name,
            model.spacing_um,
        )

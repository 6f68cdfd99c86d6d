"""From a volume, trained models and options to a pipeline that does the work."""

import gc
import logging
from collections.abc import Sequence
from dataclasses import replace

from cellseg3d.acceleration.allocator import give_back, keep_few_primitives
from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.likeness import unlike, volume_features
from cellseg3d.models.geometry import geometry_of
from cellseg3d.prediction.budget import chunk_bytes, within
from cellseg3d.prediction.field import Field, VolumeField
from cellseg3d.prediction.lattice import WindowPlan
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.pipeline import Pipeline, fitted
from cellseg3d.prediction.predictor import TrainedModel, networks_of
from cellseg3d.prediction.source_weights import (
    UsedSource,
    bundle_weights,
    fusion_of,
)
from cellseg3d.prediction.sources import NetworkUse
from cellseg3d.prediction.trial import prepare_for

_log = logging.getLogger(__name__)
# Edges that differ by more than this factor are told to the user.
FAR = 1.5


def plan(
    volume: Volume, models: Sequence[TrainedModel], options: SegmentOptions
) -> Pipeline:
    """Return the pipeline that `options` ask for, on one volume.

    Raises
    ------
    ConfigError
        If there is no model, or the models' classes differ.
    """
    if not models:
        raise ConfigError("no bundle was given; expected at least one")
    names = [tuple(model.classes) for model in models]
    for model, classes in zip(models, names, strict=True):
        if classes != names[0]:
            message = (
                f"{model.name}: classes {list(classes)} differ from those of "
                f"{models[0].name}, {list(names[0])}; fuse bundles of the same classes"
            )
            raise ConfigError(message)
    if options.max_ram is None:
        keep_few_primitives()
    gc.freeze()  # what is there already need not be searched for what we leave behind
    try:
        return _plan(volume, models, options)
    finally:
        gc.unfreeze()


def _plan(
    volume: Volume, models: Sequence[TrainedModel], options: SegmentOptions
) -> Pipeline:
    fuse = options.fuse
    if fuse == "auto" and options.axes is not None:
        fuse = "weighted"  # learned weights are those of the bundle's own axes
    bundles = [_sources(volume, model, options) for model in models]
    pairs = [
        (view, row)
        for bundle in bundles
        for (source, use), row in zip(
            bundle, bundle_weights(bundle, fuse, volume.spacing), strict=True
        )
        for view in (use.views(source, volume.spacing) if options.tta else [source])
    ]
    used = [pair for pair in pairs if max(pair[1]) > 0]
    for source, weight in pairs:
        if max(weight) <= 0:
            _log.info("%s: left out, it was found not to help", source.name)
    count = len(models[0].classes)
    fusion = fusion_of(fuse, [row for _, row in used])
    held = fusion.bytes_per_voxel(len(used), count)
    chosen, chunk = fitted([source for source, _ in used], held)
    pipeline = Pipeline(
        chosen,
        fusion,
        count,
        chunk,
        options.probs,
        options.uncertainty,
    )
    limit = options.max_ram
    if chosen[0].engine.hardware.device.type == "cuda":
        limit = options.max_vram
    else:
        give_back(limit, chunk_bytes(pipeline) if len(used) > 1 else 0)
    return pipeline if limit is None else within(pipeline, limit)


def _sources(
    volume: Volume, model: TrainedModel, options: SegmentOptions
) -> list[UsedSource]:
    """Return the sources of all networks of a bundle."""
    for warning in model.warnings:
        _log.warning("%s: %s", model.name, warning)
    check_spacing(volume, model)
    check_likeness(volume, model)
    field = VolumeField.measured(volume, model.intensity)
    return [
        each
        for network in networks_of(model)
        for each in sources_of(network, field, options)
    ]


def sources_of(
    model: TrainedModel, field: Field, options: SegmentOptions
) -> list[UsedSource]:
    """Return the sources of one network on what it sees of a volume.

    Raises
    ------
    AxisError
        If the network takes other channels than a volume has.
    """
    window = WindowPlan.parse(model.window, model.spec)
    window = replace(
        window, axes=options.axes or window.axes, batch=options.batch or window.batch
    )
    if options.skip_empty and window.empty_below is None:
        _log.warning("%s: its bundle has no threshold for --skip-empty", model.name)
    geometry = geometry_of(model.network)
    if geometry.channels != model.spec.in_channels or model.spec.image_channels != 1:
        message = (
            f"{model.name}: its network takes {geometry.channels} channels, of "
            f"{model.spec.image_channels} images; a volume has one"
        )
        raise AxisError(message)
    use = NetworkUse(
        model.name,
        prepare_for(
            field,
            model.network,
            model.spec,
            window.axes,
            options,
            contrasts=True,
        ),
        model.spec,
        window,
        geometry.stride,
        len(model.classes),
        geometry.sees_window,
    )
    found = use.sources(field, skip_empty=options.skip_empty)
    if geometry.sees_window and any(source.lattice.tiled for source in found):
        _log.warning(
            "%s: its normalisation sees the whole window; windows overlap and are "
            "blended, and labels depend a little on where they lie",
            model.name,
        )
    return [(source, use) for source in found]


def check_likeness(volume: Volume, model: TrainedModel) -> None:
    """Tell the user when a volume looks unlike those of the training, and how."""
    if model.likeness is None:
        return
    features = volume_features(volume, model.intensity)
    differences = unlike(features, model.likeness)
    if differences:
        _log.warning(
            "%s: does not look like what %s was trained on: %s; do not trust the "
            "labels unchecked: see the card in %s, bring the voxels to another size "
            "with --spacing-um, or train on a few labelled slices of yours",
            volume.name,
            model.name,
            " and ".join(differences),
            model.path / "docs" / "README.md",
        )


def check_spacing(volume: Volume, model: TrainedModel) -> None:
    """Tell the user when a volume's voxels are far from those of the training."""
    if model.spacing_um is None:
        return
    if volume.spacing is None:
        _log.warning(
            "%s: its voxel edges are unknown, so it is predicted as it is; %s was "
            "trained on %s: pass --spacing-um Z Y X",
            volume.name,
            model.name,
            model.spacing_um,
        )
        return
    pairs = zip(volume.spacing.zyx, model.spacing_um.zyx, strict=True)
    if any(not 1 / FAR <= here / there <= FAR for here, there in pairs):
        _log.warning(
            "%s: voxels of %s, but %s was trained on %s; pass --rescale",
            volume.name,
            volume.spacing,
            model.name,
            model.spacing_um,
        )

"""From a volume, trained models and options to a pipeline that does the work."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.inference.budget import within
from cellseg3d.inference.engine import prepare
from cellseg3d.inference.field import VolumeField
from cellseg3d.inference.fusion import Fusion, anisotropy_prior
from cellseg3d.inference.geometry import geometry_of
from cellseg3d.inference.lattice import WindowPlan
from cellseg3d.inference.options import SegmentOptions
from cellseg3d.inference.pipeline import Pipeline, fitted
from cellseg3d.inference.predictor import TrainedModel
from cellseg3d.inference.sources import NetworkUse, Source

_log = logging.getLogger(__name__)
# Edges that differ by more than this factor are told to the user.
FAR = 1.5
UNWEIGHTED = ("mean", "vote", "maximum", "product")


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
    pairs = [pair for model in models for pair in _sources(volume, model, options)]
    used = [pair for pair in pairs if max(pair[1]) > 0]
    for source, weight in pairs:
        if max(weight) <= 0:
            _log.info("%s: left out, it was found not to help", source.name)
    chosen, chunk = fitted([source for source, _ in used])
    mode = "weighted" if options.fuse == "learned" else options.fuse
    weights = () if options.fuse in UNWEIGHTED else tuple(row for _, row in used)
    pipeline = Pipeline(
        chosen,
        Fusion(mode, weights),
        len(names[0]),
        chunk,
        options.probs,
        options.uncertainty,
    )
    limit = options.max_ram
    if chosen[0].engine.hardware.device.type == "cuda":
        limit = options.max_vram
    return pipeline if limit is None else within(pipeline, limit)


def _sources(
    volume: Volume, model: TrainedModel, options: SegmentOptions
) -> list[tuple[Source, tuple[float, ...]]]:
    """Return a model's sources, each with its weight for every class."""
    for warning in model.warnings:
        _log.warning("%s: %s", model.name, warning)
    check_spacing(volume, model)
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
    if geometry.sees_window:
        _log.warning(
            "%s: its normalisation sees the whole window; windows overlap and are "
            "blended, and labels depend a little on where they lie",
            model.name,
        )
    use = NetworkUse(
        model.name,
        prepare(model.network, options.device, options.precision, options.engine),
        model.spec,
        window,
        geometry.stride,
        len(model.classes),
        geometry.sees_window,
    )
    field = VolumeField.measured(volume, model.intensity)
    found = []
    for source in use.sources(field, skip_empty=options.skip_empty):
        weight = source_weight(source, window, options.fuse, volume.spacing)
        views = use.views(source, volume.spacing) if options.tta else [source]
        found += [(view, weight) for view in views]
    return found


def check_spacing(volume: Volume, model: TrainedModel) -> None:
    """Tell the user when a volume's voxels are far from those of the training."""
    if volume.spacing is None or model.spacing_um is None:
        return
    pairs = zip(volume.spacing.zyx, model.spacing_um.zyx, strict=True)
    if any(not 1 / FAR <= here / there <= FAR for here, there in pairs):
        _log.warning(
            "%s: voxels of %s, but %s was trained on %s; pass --rescale to resample",
            volume.name,
            volume.spacing,
            model.name,
            model.spacing_um,
        )


def source_weight(
    source: Source, window: WindowPlan, fuse: str, spacing: Spacing | None
) -> tuple[float, ...]:
    """Return the weight of a source for every class.

    Raises
    ------
    ConfigError
        If learned weights are asked for and the bundle holds none.
    """
    axis = source.lattice.axis
    if fuse == "weighted" and axis is not None:
        return anisotropy_prior(axis, spacing) * source.classes
    if fuse != "learned":
        return (1.0,) * source.classes
    row = (window.fusion or {}).get(axis or "3d")
    if row is None or len(row) != source.classes:
        message = (
            f"{source.name}: its bundle holds no learned weights; fit them on "
            "validation volumes first, or pass --fuse mean"
        )
        raise ConfigError(message)
    return tuple(float(weight) for weight in row)

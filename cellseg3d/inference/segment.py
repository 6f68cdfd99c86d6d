"""The spine: a volume and trained models in, labels out, step by step."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cellseg3d import __version__
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.inference.engine import prepare
from cellseg3d.inference.field import VolumeField
from cellseg3d.inference.fusion import Fusion
from cellseg3d.inference.geometry import geometry_of
from cellseg3d.inference.lattice import WindowPlan
from cellseg3d.inference.options import SegmentOptions
from cellseg3d.inference.pipeline import Pipeline, fitted
from cellseg3d.inference.predictor import TrainedModel
from cellseg3d.inference.sources import Source, sources_of

_log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Segmentation:
    """What a segmentation yields, on the grid of the volume it came from.

    Parameters
    ----------
    labels : Volume
        Of uint8: the class of each voxel, 0 is background.
    probs : ndarray of float32, shape (K, Z, Y, X), or None
        Class probabilities in [0, 1], where asked for.
    provenance : dict
        Models, hashes, what ran where and how.
    """

    labels: Volume
    probs: Any | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def segment(
    volume: Volume,
    models: TrainedModel | Sequence[TrainedModel],
    options: SegmentOptions | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment a volume in memory.

    Parameters
    ----------
    volume : Volume
        Raw intensities, in memory or lazy.
    models : TrainedModel or sequence of them
        Several are fused.
    options : SegmentOptions, optional
    progress : callable, optional
        Called with voxels done and voxels in all, after each chunk.

    Returns
    -------
    Segmentation
        Labels of the volume's shape, with its spacing.

    Raises
    ------
    ConfigError
        If the models do not fit each other.
    NonFiniteError
        If the volume or a network's answer holds NaN or infinity.
    """
    wanted = options or SegmentOptions()
    chosen = [models] if not isinstance(models, Sequence) else list(models)
    pipeline = plan(volume, chosen, wanted)
    labels = np.zeros(volume.shape, np.uint8)
    probs = None
    if wanted.probs:
        probs = np.empty((pipeline.classes, *volume.shape), np.float32)
    done = 0
    for chunk in pipeline.chunks():
        answer = pipeline.run(chunk)
        labels[chunk.slices] = answer.labels
        if probs is not None and answer.probs is not None:
            probs[(slice(None), *chunk.slices)] = answer.probs
        done += chunk.size
        if progress is not None:
            progress(done, Roi.whole(volume.shape).size)
    record = provenance(volume, chosen, pipeline)
    return Segmentation(label_volume(volume, labels, record), probs, record)


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
    sources: list[Source] = []
    for model in models:
        sources += _sources(volume, model, options)
    chosen, chunk = fitted(sources)
    fusion = Fusion("mean" if options.fuse == "learned" else options.fuse)  # type: ignore[arg-type]
    return Pipeline(chosen, fusion, len(names[0]), chunk, options.probs)


def label_volume(volume: Volume, labels: Any, record: dict[str, Any]) -> Volume:  # noqa: ANN401
    """Return labels on the grid of a volume."""
    notes = {"labels": True, "segmentation": record}
    if volume.provenance.get("simulated"):
        notes["simulated"] = True
    return replace(volume, array=labels, intensity_unit="arbitrary", provenance=notes)


def provenance(
    volume: Volume, models: Sequence[TrainedModel], pipeline: Pipeline
) -> dict[str, Any]:
    """Return, as JSON holds it, how labels came about."""
    return {
        "cellseg3d": __version__,
        "volume": volume.name,
        "models": [
            {
                "name": model.name,
                "sha256": model.sha256,
                "classes": list(model.classes),
            }
            for model in models
        ],
        "sources": [
            {
                "name": source.name,
                "core": list(source.lattice.core),
                "halo": list(source.lattice.halo),
                **source.engine.describe(),
            }
            for source in pipeline.sources
        ],
        "fuse": pipeline.fusion.mode,
    }


def _sources(
    volume: Volume, model: TrainedModel, options: SegmentOptions
) -> list[Source]:
    for warning in model.warnings:
        _log.warning("%s: %s", model.name, warning)
    window = WindowPlan.parse(model.window, model.spec)
    window = replace(
        window,
        axes=options.axes or window.axes,
        batch=options.batch or window.batch,
    )
    engine = prepare(model.network, options.device, options.precision)
    field = VolumeField.measured(volume, model.intensity)
    stride = geometry_of(model.network).stride
    return sources_of(model.name, field, engine, model.spec, window, stride)

"""The spine: a volume and trained models in, labels out, step by step."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d import __version__
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.inference.blockwise import output_of, write_chunks
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
    uncertainty : ndarray of float32, shape (Z, Y, X), or None
        In [0, 1], where asked for.
    provenance : dict
        Models, hashes, what ran where and how.
    """

    labels: Volume
    probs: NDArray[np.float32] | None = None
    uncertainty: NDArray[np.float32] | None = None
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
    probs = uncertainty = None
    if wanted.probs:
        probs = np.empty((pipeline.classes, *volume.shape), np.float32)
    if wanted.uncertainty:
        uncertainty = np.empty(volume.shape, np.float32)
    done = 0
    for chunk in pipeline.chunks():
        answer = pipeline.run(chunk)
        labels[chunk.slices] = answer.labels
        if probs is not None and answer.probs is not None:
            probs[(slice(None), *chunk.slices)] = answer.probs
        if uncertainty is not None and answer.uncertainty is not None:
            uncertainty[chunk.slices] = answer.uncertainty
        done += chunk.size
        if progress is not None:
            progress(done, Roi.whole(volume.shape).size)
    record = provenance(volume, chosen, pipeline)
    found = replace(
        volume,
        array=labels,
        intensity_unit="arbitrary",
        provenance={**notes_of(volume, record), "labels": True},
    )
    return Segmentation(found, probs, uncertainty, record)


def segment_to_file(
    volume: Volume,
    models: TrainedModel | Sequence[TrainedModel],
    out: Path,
    options: SegmentOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Segment a volume of any size into a file, within bounded memory.

    The output grows in ``NAME.partial``; killed at any moment and called again, it
    goes on there and ends as if nothing had happened.

    Parameters
    ----------
    volume : Volume
        Lazy where it does not fit into memory.
    models, options, progress
        As for `segment`.
    out : Path
        Where the labels go; the suffix picks the format. Class probabilities and
        uncertainty lie beside it.
    overwrite : bool
        Replace what is there.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        If `out` is there and not to be replaced, or the models do not fit.
    EnvironmentFault
        If the disk is full; the finished chunks are kept.
    """
    wanted = options or SegmentOptions()
    chosen = [models] if not isinstance(models, Sequence) else list(models)
    pipeline = plan(volume, chosen, wanted)
    record = provenance(volume, chosen, pipeline)
    output = output_of(out, volume, pipeline, chosen[0].classes, wanted.probs_dtype)
    return write_chunks(
        pipeline,
        output,
        task_of(volume, record, pipeline),
        notes_of(volume, record),
        overwrite=overwrite,
        progress=progress,
    )


def task_of(
    volume: Volume, record: dict[str, Any], pipeline: Pipeline
) -> dict[str, Any]:
    """Return what tells this segmentation from any other: input, models, windows."""
    path = Path(volume.name.partition("::")[0])
    state = path.stat() if path.exists() else None
    return {
        **record,
        "shape": list(volume.shape),
        "dtype": str(volume.dtype),
        "intensity": [
            [source.field.offset, source.field.factor]
            for source in pipeline.sources
            if isinstance(source.field, VolumeField)
        ],
        "bytes": None if state is None else state.st_size,
        "modified": None if state is None else state.st_mtime_ns,
        "chunk": list(pipeline.chunk),
        "probs": pipeline.probs,
        "uncertainty": pipeline.uncertainty,
    }


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
    return Pipeline(
        chosen, fusion, len(names[0]), chunk, options.probs, options.uncertainty
    )


def notes_of(volume: Volume, record: dict[str, Any]) -> dict[str, Any]:
    """Return what a label file says about itself."""
    notes: dict[str, Any] = {"segmentation": record}
    if volume.provenance.get("simulated"):
        notes["simulated"] = True
    return notes


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

"""Segment a volume with trained models, in memory or into a file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.resampling import Resampled, nearest_on
from cellseg3d.prediction.expect import expected_dice
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.output.blockwise import Extra, output_of, write_chunks
from cellseg3d.prediction.output.scale_out import dask_runner
from cellseg3d.prediction.pipeline import Progress
from cellseg3d.prediction.recipe import Recipe
from cellseg3d.prediction.record import notes_of, provenance, task_of
from cellseg3d.prediction.rescale import onto_training_grid
from cellseg3d.prediction.setup import set_up


@dataclass(frozen=True)
class Segmentation:
    """The result of a segmentation, on the grid of the volume it was made from.

    Parameters
    ----------
    labels : Volume
        The class of each voxel, uint8; 0 is background.
    probs : ndarray of float32, shape (K, Z, Y, X), or None
        Class probabilities in [0, 1], if they were asked for.
    uncertainty : ndarray of float32, shape (Z, Y, X), or None
        Uncertainty in [0, 1], if it was asked for.
    provenance : dict
        Models and their hashes, windows, device and precision.
    expected_dice : dict or None
        What Dice is expected of the labels (`cellseg3d.prediction.expect`); None if
        the model holds nothing to expect it by.
    """

    labels: Volume
    probs: NDArray[np.float32] | None = None
    uncertainty: NDArray[np.float32] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    expected_dice: dict[str, Any] | None = None


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
        Raw intensities, in memory or on disk.
    models : TrainedModel or sequence of them
        The models to predict with; several are fused.
    options : SegmentOptions, optional
    progress : callable, optional
        Is called after each chunk with the voxels done and the voxels in all.

    Returns
    -------
    Segmentation
        Labels with the shape and spacing of the volume.

    Raises
    ------
    ConfigError
        If the models have different classes.
    NonFiniteError
        If the volume or a network's answer holds NaN or infinity.
    """
    wanted = options or SegmentOptions()
    chosen = [models] if not isinstance(models, Sequence) else list(models)
    seen = onto_training_grid(volume, chosen, rescale=wanted.rescale)
    if seen is not volume:
        there = segment(seen, chosen, replace(wanted, rescale=False), progress)
        return _on_grid_of(volume, there)
    pipeline = set_up(volume, chosen, wanted)
    answer = pipeline.whole(progress)
    record = provenance(volume, chosen, pipeline)
    found = replace(
        volume,
        array=answer.labels,
        intensity_unit="arbitrary",
        provenance={**notes_of(volume, record), "labels": True},
    )
    expected = expected_dice(pipeline, chosen[0].classes, answer.sums)
    return Segmentation(found, answer.probs, answer.uncertainty, record, expected)


def segment_to_file(
    volume: Volume,
    models: TrainedModel | Sequence[TrainedModel],
    out: Path,
    options: SegmentOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    extras: Sequence[Extra] = (),
) -> Path:
    """Segment a volume of any size into a file, within bounded memory.

    The output grows in the folder ``NAME.partial``. If the process is killed, calling
    this again continues there, and the result is the same.

    Parameters
    ----------
    volume : Volume
        Raw intensities; read from disk if they do not fit into memory.
    models, options, progress
        As for `segment`.
    out : Path
        The file of the labels; its suffix picks the format. Class probabilities and
        uncertainty are written beside it.
    overwrite : bool
        Whether to replace files that exist.
    extras : sequence of Extra
        Files that are made from the finished ones, in this order, before all are moved
        to their names.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        If `out` exists and must not be replaced, or the models have different classes.
    EnvironmentFault
        If the disk is full; the finished chunks are kept.
    """
    wanted = options or SegmentOptions()
    chosen = [models] if not isinstance(models, Sequence) else list(models)
    seen = onto_training_grid(volume, chosen, rescale=wanted.rescale)
    pipeline = set_up(seen, chosen, wanted)
    record = provenance(volume, chosen, pipeline)
    final = None if seen is volume else volume
    output = output_of(
        out, seen, pipeline, chosen[0].classes, wanted.probs_dtype, final, extras
    )
    runner, cluster = None, wanted.dask
    if cluster is not None:
        formats = {each.network.hardware.precision for each in pipeline.sources}
        # If networks take different formats, every machine repeats their trials.
        if len(formats) == 1:
            wanted = replace(wanted, precision=formats.pop())
        sent = Recipe(seen, chosen, wanted)
        runner = dask_runner(cluster, sent, output)
    return write_chunks(
        pipeline,
        output,
        task_of(volume, record, pipeline),
        notes_of(volume, record),
        overwrite=overwrite,
        progress=progress,
        runner=runner,
    )


def _on_grid_of(volume: Volume, found: Segmentation) -> Segmentation:
    """Return a segmentation that was made on another grid on the grid of `volume`."""
    whole = Roi.whole(volume.shape).slices
    labels = nearest_on(found.labels.array, volume.shape)[whole]
    probs = uncertainty = None
    if found.probs is not None:
        parts = [Resampled(part, volume.shape)[whole] for part in found.probs]
        probs = np.stack(parts)
    if found.uncertainty is not None:
        uncertainty = Resampled(found.uncertainty, volume.shape)[whole]
    on_grid = replace(
        found.labels, array=labels, spacing=volume.spacing, affine_mm=volume.affine_mm
    )
    return replace(found, labels=on_grid, probs=probs, uncertainty=uncertainty)

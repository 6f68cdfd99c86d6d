"""Record how labels were made: input, models, hashes, windows, device and precision."""

from collections.abc import Sequence
from typing import Any

from cellseg3d import __version__
from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.intensity import Scaling
from cellseg3d.io.fingerprint import file_of, fingerprint
from cellseg3d.io.layout import READ_AS
from cellseg3d.io.registry import CHANNEL_NUMBERS
from cellseg3d.prediction.field import Field, VolumeField
from cellseg3d.prediction.pipeline import Pipeline


def provenance(
    volume: Volume, models: Sequence[TrainedModel], pipeline: Pipeline
) -> dict[str, Any]:
    """Return a record, ready for JSON, of how labels were made."""
    return {
        "cellseg3d": __version__,
        "volume": volume.name,
        **how_read(volume),
        **({"channels": found} if (found := channels_read(volume)) else {}),
        "input": fingerprint(volume.name) if file_of(volume.name).exists() else None,
        "models": [
            {
                "name": model.name,
                "description": model.description,
                "sha256": model.sha256,
                "classes": list(model.classes),
                **model.label_meaning,
                **_errors(model, pipeline),
            }
            for model in models
        ],
        "sources": [
            {
                "name": source.name,
                "core": list(source.lattice.core),
                "halo": list(source.lattice.halo),
                **_limits(source.field),
                **source.network.describe(),
                **({"adapted": True} if source.use.adapted else {}),
            }
            for source in pipeline.sources
        ],
        "fuse": pipeline.fusion.mode,
        "weights": [list(row) for row in pipeline.fusion.weights],
        **({"temperature": heat} if (heat := pipeline.temperature) != 1.0 else {}),
    }


def how_read(volume: Volume) -> dict[str, Any]:
    """Return how a volume was read: the user's word for its axes, and its voxel edges.

    Both are None where nothing was said or known; the edges are in um.
    """
    edges = None if volume.spacing is None else list(volume.spacing.zyx)
    return {"read_as": volume.provenance.get(READ_AS), "spacing_um": edges}


def _errors(model: TrainedModel, pipeline: Pipeline) -> dict[str, Any]:
    """Return what a model's temperature changed, if it was applied."""
    if pipeline.temperature == 1.0 or model.confidence is None:
        return {}
    known = model.confidence.measured
    kept = ("temperature", "ece", "nll", "volumes")
    return {"confidence": {key: known[key] for key in kept if key in known}}


def channels_read(volume: Volume) -> list[str]:
    """Return the channels that were read of a file: names, or numbers in the file.

    The list is empty if the file has one channel without a name.
    """
    if volume.channel_names:
        return list(volume.channel_names)
    several = range(volume.channels if volume.channels > 1 else 0)
    return [f"channel {n}" for n in volume.provenance.get(CHANNEL_NUMBERS, several)]


def _limits(field: Field) -> dict[str, Any]:
    """Return the raw intensities that become -1 and 1; nothing for scaled arrays."""
    if not isinstance(field, VolumeField):
        return {}
    return {"scaled_from": list(Scaling(field.offset, field.factor).limits)}


def notes_of(volume: Volume, record: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a label file."""
    notes: dict[str, Any] = {"segmentation": record}
    if volume.provenance.get("simulated"):
        notes["simulated"] = True
    return notes


def task_of(
    volume: Volume, record: dict[str, Any], pipeline: Pipeline
) -> dict[str, Any]:
    """Return what makes two segmentations the same: input, models, windows, options.

    An unfinished output is continued only by the same task.
    """
    # The reason why a number format was picked does not change the labels.
    sources = [
        {key: value for key, value in source.items() if key != "precision_reason"}
        for source in record["sources"]
    ]
    return {
        **record,
        "sources": sources,
        "shape": list(volume.shape),
        "dtype": str(volume.dtype),
        "intensity": [
            [source.field.offset, source.field.factor]
            for source in pipeline.sources
            if isinstance(source.field, VolumeField)
        ],
        "chunk": list(pipeline.chunk),
        "probs": pipeline.probs,
        "uncertainty": pipeline.uncertainty,
    }

"""What a segmentation says of itself: models, hashes, what ran where and how."""

from collections.abc import Sequence
from typing import Any

from cellseg3d import __version__
from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.volume import Volume
from cellseg3d.io.fingerprint import file_of, fingerprint
from cellseg3d.prediction.field import VolumeField
from cellseg3d.prediction.pipeline import Pipeline


def provenance(
    volume: Volume, models: Sequence[TrainedModel], pipeline: Pipeline
) -> dict[str, Any]:
    """Return, as JSON holds it, how labels came about."""
    return {
        "cellseg3d": __version__,
        "volume": volume.name,
        "input": fingerprint(volume.name) if file_of(volume.name).exists() else None,
        "models": [
            {
                "name": model.name,
                "sha256": model.sha256,
                "classes": list(model.classes),
                **model.label_meaning,
            }
            for model in models
        ],
        "sources": [
            {
                "name": source.name,
                "core": list(source.lattice.core),
                "halo": list(source.lattice.halo),
                **source.network.describe(),
            }
            for source in pipeline.sources
        ],
        "fuse": pipeline.fusion.mode,
        "weights": [list(row) for row in pipeline.fusion.weights],
    }


def notes_of(volume: Volume, record: dict[str, Any]) -> dict[str, Any]:
    """Return what a label file says about itself."""
    notes: dict[str, Any] = {"segmentation": record}
    if volume.provenance.get("simulated"):
        notes["simulated"] = True
    return notes


def task_of(
    volume: Volume, record: dict[str, Any], pipeline: Pipeline
) -> dict[str, Any]:
    """Return what tells this segmentation from any other: input, models, windows."""
    # Why a format was picked is told, but another reason is no other task.
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

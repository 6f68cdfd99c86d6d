"""Explain one object of a prediction, and write what was found."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.atomic import atomic_write, make_folder, write_text
from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.core.volume import Volume
from cellseg3d.explanation.attribution import (
    METHODS,
    attribution,
    captum_library,
    occlusion,
)
from cellseg3d.explanation.crop import Crop, crop_around, limits_of
from cellseg3d.explanation.deletion import deletion_test
from cellseg3d.explanation.filters import Filter, strongest_filters
from cellseg3d.explanation.picture import explanation_picture
from cellseg3d.explanation.subject import (
    Subject,
    object_of,
    piece_at,
    predicted_at,
)
from cellseg3d.io.registry import create_volume
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.output.blockwise import beside
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.rescale import onto_training_grid
from cellseg3d.prediction.setup import set_up

logger = logging.getLogger(__name__)
# The parts of a volume that are written at a time around the crop.
BLOCK = (64, 512, 512)
# Filters in the picture.
DRAWN = 8


@dataclass(frozen=True)
class ExplainOptions:
    """Options of `explain`.

    Parameters
    ----------
    method : {"integrated-gradients", "gradient-x-input"}
        See `cellseg3d.explanation.attribution.attribution`.
    top : int
        How many filters of each layer are listed.
    """

    method: str = METHODS[0]
    top: int = 3

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            message = f"`method` is {self.method!r}; expected {' or '.join(METHODS)}"
            raise ConfigError(message)
        if self.top < 1:
            raise ConfigError(f"`top` is {self.top}; expected 1 or more")


@dataclass(frozen=True)
class Explanation:
    """Why a network gave an object its class.

    Parameters
    ----------
    attribution, occlusion : ndarray of float32, shape (z, y, x)
        How much each voxel of the crop raises the object's score, and by how much the
        score falls where a cube is blurred; in nats.
    filters : sequence of Filter
        Those of each layer that respond most inside the object.
    picture : PIL.Image.Image
    box : Roi
        The crop, in voxels of the volume that the network saw.
    record : dict
        Numbers for JSON: object, class, score, deletion test, filters.
    """

    attribution: NDArray[np.float32]
    occlusion: NDArray[np.float32]
    filters: Sequence[Filter]
    picture: Image.Image
    box: Roi
    record: dict[str, Any]


def explain(
    volume: Volume,
    model: TrainedModel,
    *,
    object_id: int | None = None,
    point: Zyx | None = None,
    labels: Volume | None = None,
    options: ExplainOptions | None = None,
) -> Explanation:
    """Explain one object: attribution, occlusion, filters and a deletion test.

    It is computed on the processor, in float32 and without acceleration.

    Parameters
    ----------
    volume : Volume
        The raw image.
    model : TrainedModel
        The network, or several that a bundle fuses.
    object_id : int, optional
        The object's id in `labels`.
    point : tuple of int, optional
        A place (z, y, x) inside the object, in voxels, instead of an id.
    labels : Volume, optional
        Object ids or classes on the grid of the volume. Without them, the object is the
        connected piece of the class that is predicted at `point`.
    options : ExplainOptions, optional

    Returns
    -------
    Explanation

    Raises
    ------
    ConfigError
        If neither or both of `object_id` and `point` are given, or the place lies in
        the background.
    InputError
        If no voxel has the id, or the labels have another shape.
    EnvironmentFault
        If captum is not installed.
    """
    captum_library()
    wanted = options or ExplainOptions()
    if (object_id is None) == (point is None):
        raise ConfigError(
            "give one of `object_id` and `point`, to say what is explained"
        )
    if object_id is not None and labels is None:
        message = (
            f"`object_id` is {object_id}, but there are no `labels` that hold it; give "
            "the file of object ids, such as NAME_objects of `cellseg3d predict "
            "--objects`, or a place with `point`"
        )
        raise ConfigError(message)
    if labels is not None and labels.shape != volume.shape:
        message = (
            f"{labels.name}: has shape {list(labels.shape)}, but {volume.name} has "
            f"{list(volume.shape)}; give the labels of this volume"
        )
        raise LabelError(message)
    seen = onto_training_grid(volume, [model], rescale=None)
    if seen is not volume:
        # Resampling is left out, so that the object keeps its voxels.
        logger.warning(
            "%s: is explained on its own grid, though %s resamples volumes to %s",
            volume.name,
            model.name,
            model.spacing_um,
        )
    pipeline = set_up(volume, [model], SegmentOptions(acceleration="off", device="cpu"))
    most = limits_of(pipeline)
    subject = _subject(pipeline, volume, labels, object_id, point, most)
    crop = crop_around(pipeline, subject, most)
    probs = crop.probs(crop.image)
    value, share = _class_of(probs.numpy(), crop)
    name = model.classes[value]
    given = attribution(crop, value, wanted.method)
    covered = occlusion(crop, value)
    filters = strongest_filters(crop, wanted.top)
    tested = deletion_test(crop, given, value)
    drawn = sorted(filters, key=lambda each: -each.contrast)[:DRAWN]
    picture = explanation_picture(crop, value, given, covered, drawn, volume.spacing)
    record = {
        "volume": volume.name,
        "object": subject.name,
        "class": name,
        "share_of_class": round(share, 4),
        "voxels": int(crop.inside.sum()),
        "cut": subject.cut,
        "crop": {"start": list(crop.box.start), "stop": list(crop.box.stop)},
        "model": {"name": model.name, "sha256": model.sha256},
        "method": wanted.method,
        "deletion": tested,
        "filters": [
            {
                "layer": f.layer,
                "depth": f.depth,
                "filter": f.number,
                "contrast": f.contrast,
            }
            for f in filters
        ],
    }
    return Explanation(given, covered, filters, picture, crop.box, record)


def write_explanation(
    found: Explanation, volume: Volume, labels_path: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write an explanation beside the labels of its volume.

    Parameters
    ----------
    found : Explanation
    volume : Volume
        The image, whose grid the attribution gets; it is 0 outside the crop.
    labels_path : Path
        ``NAME_labels.SUFFIX``, which need not exist.
    overwrite : bool
        Whether to replace files that exist.

    Returns
    -------
    list of Path
        The picture ``NAME_explain_OBJECT.png``, the record ``.json`` and the
        attribution ``NAME_explain_OBJECT.SUFFIX``, float32.

    Raises
    ------
    ConfigError
        If a file exists and must not be replaced.
    """
    paths = paths_of(found.record["object"], labels_path)
    for path in paths:
        if path.exists() and not overwrite:
            message = f"{path}: exists already; pass `overwrite` to replace it"
            raise ConfigError(message)
    picture, record, attributed = paths
    make_folder(picture.parent)
    atomic_write(picture, lambda new: found.picture.save(new, format="PNG"))
    _write_attribution(attributed, found, volume)
    write_text(record, json.dumps(found.record, indent=2) + "\n")
    return paths


def paths_of(name: str, labels_path: Path) -> list[Path]:
    """Return the picture, the record and the attribution of an object's explanation."""
    what = f"explain_{name.replace(' ', '_')}"
    return [
        beside(labels_path, what, ".png"),
        beside(labels_path, what, ".json"),
        beside(labels_path, what),
    ]


def _write_attribution(path: Path, found: Explanation, volume: Volume) -> None:
    notes = {"explanation": found.record}
    writer = create_volume(
        path,
        volume.shape,
        np.dtype("float32"),
        spacing=volume.spacing,
        affine_mm=volume.affine_mm,
        metadata=notes,
    )
    with writer:
        for block in blocks(volume.shape, BLOCK):
            values = np.zeros(block.shape, np.float32)
            part = block.intersect(found.box)
            if part.size:
                there = found.attribution[part.within(found.box).slices]
                values[part.within(block).slices] = there
            writer.write(block, values)


def _subject(
    pipeline: Pipeline,
    volume: Volume,
    labels: Volume | None,
    object_id: int | None,
    point: Zyx | None,
    most: Zyx,
) -> Subject:
    if labels is not None and object_id is not None:
        return object_of(labels, object_id, most)
    if point is None:
        raise ConfigError(
            "give one of `object_id` and `point`, to say what is explained"
        )
    if labels is not None:
        return piece_at(labels, point, most)
    return predicted_at(pipeline, point, most, volume.name)


def _class_of(probs_kzyx: NDArray[np.float32], crop: Crop) -> tuple[int, float]:
    """Return the likeliest class but background in the object, and its share of it."""
    inside = crop.inside.numpy()
    best = probs_kzyx.argmax(0)[inside]
    counts = np.bincount(best, minlength=len(probs_kzyx))
    value = 1 + int(counts[1:].argmax())
    if not counts[1:].any():
        value = 1 + int(probs_kzyx[1:, inside].mean(1).argmax())
    return value, float(counts[value] / len(best))

"""Tune the decoder of a trained run on its own training volumes, and keep it there."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellseg3d.bundle.model import TrainedModel, load_model
from cellseg3d.bundle.shipped import MODELS
from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Case, Datalist, split_inner
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.targets import decoder_for
from cellseg3d.datasets.volumes import read_case_label
from cellseg3d.io.registry import open_volume
from cellseg3d.objects.options import ObjectOptions
from cellseg3d.objects.sizes import ObjectSizes, converted
from cellseg3d.objects.tuning import Tuned, TuningCase, tune_decoder
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment

DECODER = "decoder.json"


def tune_run(
    run: Path, method: str | None = None, *, most: int = 8, side: int = 128
) -> Tuned:
    """Tune a decoder on the training volumes of a run and write it into the run.

    ``RUN/models/decoder.json`` is what `predict --objects` then decodes with. The net
    has seen these volumes, so its answers are better there than elsewhere; volumes
    that validated or test the run are never looked at.

    Parameters
    ----------
    run : Path
        A folder of `cellseg3d train`, of a data set of object ids.
    method : str, optional
        The decoder; what fits the classes of the net when None.
    most : int
        Training volumes to look at, the first ones.
    side : int
        Of volumes of more than its cube in voxels the middle is looked at, so many
        along each axis.

    Raises
    ------
    ConfigError
        If the folder is no run, or its labels hold no object ids.
    """
    model = load_model(run)
    datalist, training, held_out = _cases_of(run)
    options = ObjectOptions(method=method or decoder_for(model.classes))
    seen = [_predicted(case, datalist, model, side) for case in training[:most]]
    # Without a true object there is nothing to choose numbers by.
    cases = [case for case in seen if np.any(case.truth[:])] or seen
    tuned = tune_decoder(cases, options, held_out=held_out)
    known = all(case.spacing is not None for case in cases)
    kept = {
        "unit": "um" if known else "voxels",
        "options": tuned.options.as_dict(),
        "score": tuned.score,
        "cases": [case.name for case in cases],
        "trials": tuned.trials,
    }
    text = json.dumps(kept, indent=1) + "\n"
    path = model.path / MODELS / DECODER
    atomic_write(path, lambda new: _write(new, text))
    return tuned


def keep_sizes(run: Path, sizes: ObjectSizes, classes: Sequence[str]) -> None:
    """Write a decoder into a run whose numbers are those of its training objects."""
    options = ObjectOptions(
        method=decoder_for(tuple(classes)),
        min_volume_um3=float(f"{sizes.least:.6g}"),
        mean_volume_um3=float(f"{sizes.mean:.6g}"),
    )
    kept = {
        "unit": sizes.unit,
        "options": options.as_dict(),
        "training_objects": sizes.count,
    }
    text = json.dumps(kept, indent=1) + "\n"
    atomic_write(run / MODELS / DECODER, lambda new: _write(new, text))


def kept_decoder(run: Path) -> dict[str, Any] | None:
    """Return the decoder that a run keeps, with its unit; None without one."""
    path = run / MODELS / DECODER
    return read_mapping(path) if path.is_file() else None


def decoder_of(model: TrainedModel, spacing: Spacing | None) -> ObjectOptions:
    """Return the decoder that fits a model, in the unit of a volume of some spacing.

    It is the one that was tuned for it, or that has the sizes of its training objects;
    without either, the one that fits its classes, with its usual numbers.

    Parameters
    ----------
    model : TrainedModel
    spacing : Spacing or None
        Voxel edges of the volume whose objects are to be found.
    """
    kept = kept_decoder(model.path) or model.decoder
    if kept is None:
        return ObjectOptions(method=decoder_for(tuple(model.classes)))
    where = model.path / MODELS / DECODER
    options = ObjectOptions.parsed(kept.get("options", kept), where)
    unit = kept.get("unit", "um" if spacing else "voxels")
    return converted(options, unit, spacing, model.spacing_um)


def _cases_of(run: Path) -> tuple[Datalist, Sequence[Case], list[str]]:
    """Return a run's data set, its training cases, and the names of all others."""
    try:
        data = json.loads((run / "run.json").read_text(encoding="utf-8"))["data"]
        place, names = str(data["datalist"]), list(data["training"])
    except (OSError, ValueError, KeyError) as error:
        message = f"{run}: has no run.json that names its training volumes"
        raise ConfigError(message) from error
    datalist = load_datalist(place)
    if datalist.labels == "classes":
        message = (
            f"{place}: its labels are classes; a decoder is tuned on object ids "
            '("labels": "instances")'
        )
        raise ConfigError(message)
    training = [case for case in datalist.cases if case.name in names]
    others = [case.name for case in datalist.cases if case.name not in names]
    return datalist, training, others


def _predicted(
    case: Case, datalist: Datalist, model: TrainedModel, side: int
) -> TuningCase:
    file, inner = split_inner(case.image)
    volume = open_volume(file, inner=inner, spacing=case.spacing)
    found = segment(volume, model, SegmentOptions(probs=True))
    # As files hold them, so that a decoder meets the same numbers later.
    probs = np.rint(np.asarray(found.probs) * 255).astype(np.float32) / 255
    truth = read_case_label(case, datalist).read()
    middle: tuple[slice, ...] = Roi.whole(volume.shape).slices
    if truth.size > side**3:
        middle = tuple(
            slice(max(0, (length - side) // 2), (length + side) // 2)
            for length in truth.shape
        )
    kept = np.ascontiguousarray(probs[(slice(None), *middle)])
    return TuningCase(case.name, case.group, kept, truth[middle], volume.spacing)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

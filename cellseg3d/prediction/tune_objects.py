"""Tune the decoder of a trained run on its own training volumes, and keep it there."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cellseg3d.bundle.model import TrainedModel, load_model
from cellseg3d.bundle.shipped import MODELS
from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi
from cellseg3d.datasets.cases import Case, Datalist, split_inner
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.targets import decoder_for
from cellseg3d.datasets.volumes import read_case_label
from cellseg3d.io.registry import open_volume
from cellseg3d.objects.options import ObjectOptions
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
    kept = {
        "options": tuned.options.as_dict(),
        "score": tuned.score,
        "cases": [case.name for case in cases],
        "trials": tuned.trials,
    }
    text = json.dumps(kept, indent=1) + "\n"
    path = model.path / MODELS / DECODER
    atomic_write(path, lambda new: _write(new, text))
    return tuned


def kept_decoder(model: TrainedModel) -> ObjectOptions | None:
    """Return the decoder that was tuned for a model; None when none was."""
    path = model.path / MODELS / DECODER
    return ObjectOptions.read(path) if path.is_file() else None


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

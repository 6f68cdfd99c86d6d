"""Tune the decoder of a run on its training volumes and store it in the run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellseg3d.bundle.model import TrainedModel, load_model
from cellseg3d.bundle.shipped import MODELS
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.targets import decoder_for
from cellseg3d.datasets.volumes import read_case_label
from cellseg3d.objects.options import ObjectOptions
from cellseg3d.objects.sizes import ObjectSizes, converted
from cellseg3d.objects.tuning import Tuned, TuningCase, tune_decoder
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment

DECODER = "decoder.json"


def tune_run(
    run: Path,
    method: str | None = None,
    *,
    most: int = 8,
    side: int = 128,
    datalist: Path | None = None,
) -> Tuned:
    """Tune a decoder on the training volumes of a run and write it into the run.

    The decoder is written to ``RUN/models/decoder.json``, and ``cellseg3d predict
    --objects`` uses it from then on. The network answers better on these volumes, on
    which it was trained, than on others. Volumes for validation or test are not used.

    Parameters
    ----------
    run : Path
        A folder that `cellseg3d train` wrote, for a data set of object ids.
    method : str, optional
        The decoder. When None, the one that fits the network's classes is taken.
    most : int
        The number of training volumes to use, counted from the first.
    side : int
        Side of a cube, in voxels. Of larger volumes only the middle is used, as many
        voxels as the cube has; of thin stacks it is wider than the cube.
    datalist : Path, optional
        The datalist of the training. When None, the one that the run names is read.

    Returns
    -------
    Tuned

    Raises
    ------
    ConfigError
        If the folder is not a run, or its labels are not object ids.
    """
    model = load_model(run)
    data, training, held_out = _cases_of(run, datalist)
    options = ObjectOptions(method=method or decoder_for(model.classes))
    seen = [_predicted(case, data, model, side) for case in training[:most]]
    # A case without objects cannot tell good numbers from bad ones.
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
    write_text(path, text)
    return tuned


def keep_sizes(run: Path, sizes: ObjectSizes, classes: Sequence[str]) -> None:
    """Write a decoder into a run, with the sizes of its training objects."""
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
    write_text(run / MODELS / DECODER, text)


def kept_decoder(run: Path) -> dict[str, Any] | None:
    """Return the decoder that a run holds, with its unit of length, or None."""
    path = run / MODELS / DECODER
    return read_mapping(path) if path.is_file() else None


def decoder_of(model: TrainedModel, spacing: Spacing | None) -> ObjectOptions:
    """Return the decoder of a model, in the unit of a volume's spacing.

    It is the one that the run or the bundle holds. If there is none, it is the one that
    fits the model's classes, with default numbers.

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


def _cases_of(
    run: Path, moved: Path | None
) -> tuple[Datalist, Sequence[Case], list[str]]:
    """Return a run's data set, its training cases, and the names of all others."""
    try:
        data = json.loads((run / "run.json").read_text(encoding="utf-8"))["data"]
        place = str(moved or data["datalist"])
        names = list(data["training"])
    except (OSError, ValueError, KeyError) as error:
        message = (
            f"{run}: has no run.json that names its training volumes; give a folder "
            "that `cellseg3d train` wrote"
        )
        raise ConfigError(message) from error
    datalist = load_datalist(place)
    if datalist.labels == "classes":
        message = (
            f"{place}: its labels are classes, but a decoder is tuned on object ids; "
            'train on a data set with "labels": "objects"'
        )
        raise ConfigError(message)
    training = [case for case in datalist.cases if case.name in names]
    others = [case.name for case in datalist.cases if case.name not in names]
    return datalist, training, others


def _predicted(
    case: Case, datalist: Datalist, model: TrainedModel, side: int
) -> TuningCase:
    volume = case.open_image()
    found = segment(volume, model, SegmentOptions(probs=True, calibrated=False))
    # Probabilities are rounded as in files, because the decoder will read those.
    probs = np.rint(np.asarray(found.probs) * 255).astype(np.float32) / 255
    truth = read_case_label(case, datalist).read()
    middle: tuple[slice, ...] = Roi.whole(volume.shape).slices
    if truth.size > side**3:
        # Of a thin stack more of the plane is kept, or no object would be whole.
        depth = min(truth.shape[0], side)
        wide = int((side**3 / depth) ** 0.5)
        middle = tuple(
            slice(max(0, (length - most) // 2), (length + most) // 2)
            for length, most in zip(truth.shape, (depth, wide, wide), strict=True)
        )
    kept = np.ascontiguousarray(probs[(slice(None), *middle)])
    return TuningCase(case.name, case.group, kept, truth[middle], volume.spacing)

"""Score the labels of a case; the same code scores every method."""

from dataclasses import replace
from typing import Any

from cellseg3d.benchmark.dataset import WrittenFold
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case
from cellseg3d.datasets.volumes import case_classes, read_case_label
from cellseg3d.metrics.components import label_components
from cellseg3d.metrics.overlap import mean_defined
from cellseg3d.scoring.evaluate import open_labels
from cellseg3d.scoring.one_volume import FOREGROUND, ScoreOptions, score_volume

VOXEL = ("dice", "jaccard", "precision", "recall")
SURFACE = ("hd95_um", "assd_um")
OBJECT = ("object_f1", "n_true", "n_predicted")


def score_case(
    labels: str,
    case: Case,
    fold: WrittenFold,
    target: str,
    *,
    objects: bool = True,
    surface: bool = True,
) -> dict[str, dict[str, float]]:
    """Score the predicted labels of one case against the truth.

    Parameters
    ----------
    labels : str
        File of predicted class labels, with the shape of the case.
    case : Case
    fold : WrittenFold
    target : str
        The class to score; only ``mean_dice`` covers all classes.
    objects : bool
        Whether to score objects too: connected components of the target, compared with
        the object ids of the truth or, without ids, with the truth's components.
    surface : bool
        Whether to measure distances of surfaces too.

    Returns
    -------
    dict
        ``scores`` by name and the Dice of all ``classes``, NaN where undefined. Surface
        distances in um are missing when the voxel size is not known.

    Raises
    ------
    InputError
        If the prediction does not fit the truth.
    """
    datalist = fold.datalist
    raw = read_case_label(case, datalist)
    spacing = case.spacing or raw.spacing
    truth = raw.with_array(case_classes(raw.read(), datalist, case, raw.name))
    ids = datalist.labels != "classes"
    options = ScoreOptions(
        classes=datalist.classes,
        components=objects and not ids,
        surface=surface and spacing is not None,
        spacing=spacing,
    )
    prediction = open_labels(labels)
    if prediction.spacing is None and spacing is not None:
        prediction = replace(prediction, spacing=spacing)
    found = score_volume(prediction, truth, options, case.annotated)
    mine: dict[str, Any] = {**found.classes[target], **found.objects.get(target, {})}
    if objects and ids:
        mine |= _id_scores(prediction, raw, datalist.classes.index(target), options)
    wanted = [*VOXEL, *SURFACE, *OBJECT]
    scores = {name: float(mine[name]) for name in wanted if name in mine}
    classes = {
        name: float(values["dice"])
        for name, values in found.classes.items()
        if name != FOREGROUND
    }
    scores["mean_dice"] = mean_defined(list(classes.values()))[0]
    return {"scores": scores, "classes": classes}


def _id_scores(
    prediction: Volume, truth: Volume, target: int, options: ScoreOptions
) -> dict[str, Any]:
    """Return the object scores of connected components against true ids."""
    pieces = prediction.with_array(label_components(prediction.read() == target))
    asked = ScoreOptions(ids=True, spacing=options.spacing)
    return score_volume(pieces, truth, asked).objects[FOREGROUND]

"""Write a methods paragraph from the records of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from cellseg3d.report.evaluation import ReportScores
from cellseg3d.report.inputs import ReportVolume
from cellseg3d.report.run_folder import RunFolder

# More names than these are listed apart from the paragraph.
MOST_NAMES = 8


def methods_paragraph(
    run: RunFolder | None,
    volumes: Sequence[ReportVolume],
    scores: ReportScores,
    versions: Mapping[str, str],
) -> str:
    """Return sentences about training and scoring that can be used in a paper."""
    sentences = [_software(volumes, versions), *_models(volumes)]
    if run is not None:
        sentences += _training(run)
    if scores.table:
        sentences += _scoring(volumes, scores)
    elif volumes:
        sentences.append("The segmentation was not compared with a manual one.")
    return " ".join(sentence for sentence in sentences if sentence)


def training_names(run: RunFolder | None) -> list[tuple[str, list[str]]]:
    """Return the names of the training and validation volumes that are too many.

    `methods_paragraph` gives only their number.
    """
    data = run.record.get("data", {}) if run else {}
    return [
        (kind, list(map(str, data[kind])))
        for kind in ("training", "validation")
        if len(data.get(kind) or []) > MOST_NAMES
    ]


def _software(volumes: Sequence[ReportVolume], versions: Mapping[str, str]) -> str:
    names = {"torch": "PyTorch", "monai": "MONAI", "python": "Python"}
    others = [f"{names[key]} {versions[key]}" for key in names if key in versions]
    with_others = f" ({', '.join(others)})" if others else ""
    kind = "Images" if _flat(volumes) else "Volumes"
    return (
        f"{kind} were segmented with cellseg3d {versions.get('cellseg3d', '')}"
        f"{with_others}."
    )


def _models(volumes: Sequence[ReportVolume]) -> list[str]:
    """Return a sentence about the models that the records of the labels name."""
    found: dict[str, str] = {}
    for volume in volumes:
        for model in volume.models:
            name, text = (str(model.get(key) or "") for key in ("name", "description"))
            found[name] = f"{name} ({text})" if text else name
    named = [text for name, text in found.items() if name]
    if not named:
        return []
    kind = "model was" if len(named) == 1 else "models were"
    return [f"The {kind} {' and '.join(named)}."]


def _training(run: RunFolder) -> list[str]:
    record = run.record
    data = record.get("data", {})
    training, validation = data.get("training", []), data.get("validation", [])
    found = []
    description = run.metadata.get("description")
    if description:
        found.append(f"The network ({description}) was trained from its configuration.")
    if training:
        held = f" and validated on {_count(validation)}" if validation else ""
        found.append(f"It was trained on {_count(training)}{held}.")
    if "iteration" in record:
        seed = f", seed {record['seed']}" if record.get("seed") is not None else ""
        best = record.get("best_score")
        chosen = (
            "; the weights with the best validation score "
            f"({best:.3f}, iteration {record.get('best_iteration')}) were kept"
            if isinstance(best, int | float)
            else ""
        )
        found.append(
            f"Training took {record['iteration']} iterations over "
            f"{record.get('epoch')} epochs{seed}{chosen}."
        )
    if run.cost:
        found.append(
            f"It needed {run.cost.get('wall_s', 0) / 60:.1f} minutes and at most "
            f"{run.cost.get('peak_gib', 0):.1f} GiB of memory."
        )
    return found


def _scoring(volumes: Sequence[ReportVolume], scores: ReportScores) -> list[str]:
    found = []
    spacings = sorted({str(each.spacing) for each in volumes if each.spacing})
    where = f" (voxels of {' and '.join(spacings)})" if spacings else ""
    count = len(scores.table["volumes"])
    unit, parts = ("image", "Pixels") if _flat(volumes) else ("volume", "Voxels")
    found.append(
        f"Predictions were scored against {count} annotated {unit}{'s' * (count != 1)}"
        f"{where}, the {unit} being the unit of analysis. {parts} that are not "
        "annotated were not counted."
    )
    for name, statistics in scores.table["statistics"].items():
        dice = statistics.get("dice")
        if dice and isinstance(dice["mean"], float):
            found.append(f"Dice of {name}: {_mean(dice)}.")
    for name, means in scores.table.get("objects_mean", {}).items():
        f1 = means.get("object_f1")
        if isinstance(f1, float):
            found.append(
                f"Objects of {name} were matched at an intersection over union above "
                f".5: mean F1 {f1:.3f} (n = {means['n']})."
            )
    return found


def _flat(volumes: Sequence[ReportVolume]) -> bool:
    """Return whether all volumes are 2D images."""
    return bool(volumes) and all(volume.flat for volume in volumes)


def _mean(summary: Mapping[str, Any]) -> str:
    text = f"mean {summary['mean']:.3f}"
    low, high = summary.get("low"), summary.get("high")
    if isinstance(low, float) and isinstance(high, float) and not summary["note"]:
        text += f", 95 % bootstrap interval {low:.3f} to {high:.3f}"
    return f"{text} (n = {summary['n']})"


def _count(names: Sequence[Any]) -> str:
    """Return how many volumes there are, and their names if these are few."""
    named = f" ({', '.join(map(str, names))})" if len(names) <= MOST_NAMES else ""
    return f"{len(names)} volume{'s' * (len(names) != 1)}{named}"

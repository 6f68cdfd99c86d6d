"""The tables of a page as rows of text."""

from collections.abc import Mapping
from typing import Any

from cellseg3d.report.evaluation import ReportScores
from cellseg3d.report.run_folder import RunFolder

VOXEL = ("dice", "jaccard", "precision", "recall", "accuracy")
SURFACE = ("hd95_um", "assd_um", "nsd")
OBJECT = ("object_f1", "object_precision", "object_recall", "ap_mean", "pq")
COUNTS = ("n_true", "n_predicted", "splits", "merges", "misses")
NAMES = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "hd95_um": "HD95 (um)",
    "assd_um": "ASSD (um)",
    "nsd": "NSD",
    "object_f1": "object F1",
    "object_precision": "object precision",
    "object_recall": "object recall",
    "ap_mean": "mean AP",
    "pq": "PQ",
    "n_true": "true objects",
    "n_predicted": "predicted",
}


def tiles(run: RunFolder | None, scores: ReportScores) -> list[dict[str, str]]:
    """Return the most important numbers, shown first on the page."""
    found = []
    for name, statistics in _proper(scores.table.get("statistics")).items():
        dice = statistics.get("dice")
        if dice and dice["mean"] is not None:
            found.append(_tile(f"Dice, {name}", text(dice["mean"]), _interval(dice)))
    for name, summaries in _proper(scores.objects).items():
        f1 = summaries.get("object_f1")
        if f1 is not None and f1.n:
            note = f"IoU > .5, n = {f1.n}"
            found.append(_tile(f"Object F1, {name}", text(f1.mean), note))
    if run is not None:
        best = run.record.get("best_score")
        if isinstance(best, int | float):
            note = f"iteration {run.record.get('best_iteration')}"
            found.append(_tile("Best validation", text(best), note))
        if run.cost:
            minutes = f"{run.cost.get('wall_s', 0) / 60:.1f} min"
            note = f"peak {run.cost.get('peak_gib', 0):.2f} GiB"
            found.append(_tile("Training", minutes, note))
    return found


def _tile(name: str, value: str, note: str) -> dict[str, str]:
    return {"name": name, "value": value, "note": note}


def _proper(classes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the classes without their union, if there are several classes."""
    found = dict(classes or {})
    if len(found) > 1:
        found.pop("foreground", None)
    return found


def score_rows(scores: ReportScores) -> dict[str, Any] | None:
    """Return the mean of each score with interval and n, by class, and the notes."""
    if not scores.table:
        return None
    rows: list[list[str]] = []
    notes: dict[str, None] = {}
    for name, statistics in scores.table["statistics"].items():
        objects = scores.objects.get(name, {})
        found = {
            key: statistics[key] for key in (*VOXEL, *SURFACE) if key in statistics
        }
        found |= {key: objects[key].as_dict() for key in OBJECT if key in objects}
        for score, each in found.items():
            low, high = (text(each[key]) for key in ("low", "high"))
            interval = "" if each["note"] else f"{low} to {high}"
            numbers = [text(each[key]) for key in ("mean", "sd", "median")]
            numbers.append(interval)
            counts = [str(each["n"]), str(each["n_undefined"])]
            rows.append([name, NAMES.get(score, score), *numbers, *counts])
            notes[each["note"]] = None
    head = ["class", "score", "mean", "sd", "median", "95 % interval"]
    head += ["n", "undefined"]
    return {"head": head, "rows": rows, "notes": [note for note in notes if note]}


def volume_rows(scores: ReportScores, run: RunFolder | None) -> dict[str, Any] | None:
    """Return one row per volume and class; without a truth, of the best validation."""
    if not scores.table:
        return _validation_rows(run)
    keys: dict[str, None] = {}
    found = []
    for volume, classes in scores.table["volumes"].items():
        for name, voxel in classes.items():
            objects = scores.table.get("objects", {}).get(volume, {}).get(name, {})
            row = {
                **voxel,
                **{k: objects[k] for k in (*OBJECT, *COUNTS) if k in objects},
            }
            wanted = (*VOXEL, *SURFACE, *OBJECT, *COUNTS)
            keys |= dict.fromkeys(key for key in wanted if key in row)
            found.append((volume, name, row))
    head = ["volume", "class", *(NAMES.get(key, key) for key in keys)]
    rows = [
        [volume, name, *(text(row.get(key)) for key in keys)]
        for volume, name, row in found
    ]
    return {"head": head, "rows": rows, "note": ""}


def _validation_rows(run: RunFolder | None) -> dict[str, Any] | None:
    best = run.best_scores() if run else {}
    if not best:
        return None
    classes = list(dict.fromkeys(name for row in best.values() for name in row))
    rows = [
        [case, *(text(row.get(name)) for name in classes)] for case, row in best.items()
    ]
    head = ["volume", *(f"Dice, {name}" for name in classes)]
    return {"head": head, "rows": rows, "note": "From the best validation in training."}


def cost_rows(run: RunFolder) -> list[tuple[str, str]]:
    """Return the time and memory of the training, and the machine."""
    cost, machine = run.cost, run.record.get("machine", {})
    rows = [
        ("state", str(run.record.get("state", ""))),
        ("started", str(run.record.get("started", ""))),
        ("wall time", _seconds(cost.get("wall_s"))),
        ("processor time", _seconds(cost.get("cpu_s"))),
        ("peak memory", f"{cost['peak_gib']:.2f} GiB" if "peak_gib" in cost else ""),
        ("iterations", str(run.record.get("iteration", ""))),
        *(
            (str(key), str(value))
            for key, value in machine.items()
            if value is not None
        ),
    ]
    return [(name, value) for name, value in rows if value]


def text(value: Any) -> str:  # noqa: ANN401
    """Return a number as tables show it; None and NaN are shown as undefined."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "undefined"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
    return str(value)


def _interval(summary: Mapping[str, Any]) -> str:
    if summary["note"] or summary["low"] is None:
        return f"n = {summary['n']}"
    low, high = summary["low"], summary["high"]
    return f"95 % {low:.3f} to {high:.3f}, n = {summary['n']}"


def _seconds(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, int | float):
        return ""
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"

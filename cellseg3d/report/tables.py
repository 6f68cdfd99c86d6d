"""The tables of a page as rows of text."""

from collections.abc import Mapping
from typing import Any

from cellseg3d.metrics.statistics import Summary
from cellseg3d.report.evaluation import Pieces, ReportScores
from cellseg3d.report.meanings import meanings
from cellseg3d.report.run_folder import RunFolder

VOXEL = ("dice", "jaccard", "precision", "recall", "accuracy")
SURFACE = ("hd95_um", "assd_um", "nsd")
OBJECT = ("object_f1", "object_precision", "object_recall", "ap_mean", "pq")
COUNTS = ("n_true", "n_predicted", "splits", "merges", "misses")
UNDEFINED = "-"
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
    "n_predicted": "predicted objects",
}


def tiles(run: RunFolder | None, scores: ReportScores) -> list[dict[str, str]]:
    """Return the most important numbers, shown first on the page."""
    found = []
    for name, statistics in _proper(scores.table.get("statistics")).items():
        dice = statistics.get("dice")
        if dice and dice["mean"] is not None:
            found.append(tile(f"Dice, {name}", text(dice["mean"]), _interval(dice)))
    for name, summaries in _proper(scores.objects).items():
        f1 = summaries.get("object_f1")
        if f1 is not None and f1.n:
            found.append(_object_tile(name, f1, scores.pieces.get(name)))
    if run is not None:
        best = run.record.get("best_score")
        if isinstance(best, int | float):
            note = f"iteration {run.record.get('best_iteration')}"
            found.append(tile("Best validation", text(best), note))
        if run.cost:
            minutes = f"{run.cost.get('wall_s', 0) / 60:.1f} min"
            note = f"peak {run.cost.get('peak_gib', 0):.2f} GiB"
            found.append(tile("Training", minutes, note))
    return found


def _object_tile(name: str, f1: Summary, pieces: Pieces | None) -> dict[str, str]:
    """Return the objects of a class; where specks count, F1 alone would mislead."""
    if pieces is None or not pieces.specks:
        return tile(f"Object F1, {name}", text(f1.mean), f"IoU > .5, n = {f1.n}")
    specks = f"{pieces.specks:,} speck{'s' * (pieces.specks != 1)}"
    note = (
        f"object F1 {text(f1.mean)} counts every piece, also {specks} below a tenth "
        "of the smallest true object"
    )
    value = f"{pieces.found:,} of {pieces.true:,}"
    return tile(f"Objects found, {name}", value, note)


def tile(name: str, value: str, note: str) -> dict[str, str]:
    """Return a number for the top of the page, with its name and a note."""
    return {"name": name, "value": value, "note": note}


def _proper(classes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the classes without their union, if there are several classes."""
    found = dict(classes or {})
    if len(found) > 1:
        found.pop("foreground", None)
    return found


def score_rows(scores: ReportScores) -> dict[str, Any] | None:
    """Return the scores of each class as a table, with notes and meanings.

    Of several volumes these are the mean with interval and n; a column without any
    number is left out. Of one volume these are the scores and the numbers of objects.
    """
    if not scores.table:
        return None
    found = {
        name: _statistics(statistics, scores.objects.get(name, {}))
        for name, statistics in scores.table["statistics"].items()
    }
    wanted = dict.fromkeys(score for each in found.values() for score in each)
    counts = dict.fromkeys(COUNTS) if scores.objects else {}
    table = _of_one(scores, found) if scores.table["n"] == 1 else _of_several(found)
    return {**table, "meanings": meanings((*wanted, *counts))}


def _statistics(
    voxels: Mapping[str, Any], objects: Mapping[str, Summary]
) -> dict[str, Any]:
    found = {key: voxels[key] for key in (*VOXEL, *SURFACE) if key in voxels}
    return found | {key: objects[key].as_dict() for key in OBJECT if key in objects}


def _of_one(scores: ReportScores, found: Mapping[str, Any]) -> dict[str, Any]:
    (objects,) = scores.table.get("objects", {"": {}}).values()
    rows = []
    for name, statistics in found.items():
        values = {score: each["mean"] for score, each in statistics.items()}
        values |= {
            key: objects[name][key] for key in COUNTS if key in objects.get(name, {})
        }
        rows += [
            [name, NAMES.get(score, score), text(value)]
            for score, value in values.items()
        ]
    notes = ["One volume: a mean and its interval need several."]
    return {"head": ["class", "score", "value"], "rows": rows, "notes": notes}


def _of_several(found: Mapping[str, Any]) -> dict[str, Any]:
    head = ["class", "score", "mean", "sd", "median", "95 % interval", "n", "undefined"]
    rows: list[list[str]] = []
    notes: dict[str, None] = {}
    for name, statistics in found.items():
        for score, each in statistics.items():
            low, high = (text(each[key]) for key in ("low", "high"))
            # Of few volumes an interval says little; the note tells so.
            interval = UNDEFINED if each["note"] else f"{low} to {high}"
            numbers = [text(each[key]) for key in ("mean", "sd", "median")]
            counts = [str(each["n"]), str(each["n_undefined"] or "")]
            rows.append([name, NAMES.get(score, score), *numbers, interval, *counts])
            notes[each["note"]] = None
    shown = [
        column
        for column in range(len(head))
        if any(row[column] not in ("", UNDEFINED) for row in rows)
    ]
    return {
        "head": [head[column] for column in shown],
        "rows": [[row[column] for column in shown] for row in rows],
        "notes": [note for note in notes if note],
    }


def volume_rows(scores: ReportScores, run: RunFolder | None) -> dict[str, Any] | None:
    """Return one row per volume and class; without a truth, of the best validation.

    Of one volume there are none, since `score_rows` has them already.
    """
    if not scores.table:
        return _validation_rows(run)
    if scores.table["n"] == 1:
        return None
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
    """Return a number as tables show it; None and NaN are undefined: a dash."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return UNDEFINED
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

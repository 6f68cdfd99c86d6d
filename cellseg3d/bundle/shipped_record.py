"""What was measured of shipped weights: one JSON a bundle, for card and metadata."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.bundle.compose import read_config

RECORDS = ("benchmarks", "records", "weights")


def record_path(checkout: Path, name: str) -> Path:
    """Return where the record of a bundle's weights lies in a checkout."""
    return checkout.joinpath(*RECORDS, f"{name}.json")


def read_record(checkout: Path, name: str) -> dict[str, Any] | None:
    """Return the record of a bundle's weights; None when it ships none."""
    path = record_path(checkout, name)
    return read_config(path) if path.is_file() else None


def measured(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the scores that have a number."""
    return [row for row in record["scores"] if row["mean"] is not None]


def eval_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return ``metadata.json``'s table: class, metric and condition to the mean."""
    return {
        f"{row['class']} {row['metric']}, {row['condition']}": row["mean"]
        for row in measured(record)
    }


def overall(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the mean over all conditions of each class and metric.

    Returns
    -------
    list of dict
        ``class``, ``metric``, ``mean``, ``conditions`` and ``n``, the volumes of all
        conditions together.
    """
    table: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in measured(record):
        table.setdefault((row["class"], row["metric"]), []).append(row)
    return [
        {
            "class": class_name,
            "metric": metric,
            "mean": round(sum(row["mean"] for row in rows) / len(rows), 4),
            "conditions": len(rows),
            "n": sum(row["n"] for row in rows),
        }
        for (class_name, metric), rows in table.items()
    ]


def headline(record: Mapping[str, Any]) -> str:
    """Return the scores in one line, such as ``nucleus dice .93 (66 volumes)``."""
    rows = overall(record)
    main = [row for row in rows if row["metric"] in ("dice", "object_f1")]
    if not main:
        return "not scored"
    said = ", ".join(
        f"{row['class']} {'F1' if row['metric'] == 'object_f1' else 'Dice'} "
        f"{short(row['mean'])}"
        for row in main
    )
    return f"{said} (n = {max(row['n'] for row in main)})"


def short(value: float | None) -> str:
    """Return a score as tables write it: ``.931``, ``1.000``, a dash for none."""
    if value is None:
        return "-"
    return f"{value:.3f}".removeprefix("0")


def interval(row: Mapping[str, Any]) -> str:
    """Return mean and interval, or every value where the volumes are too few."""
    values: Sequence[float | None] = row["values"]
    if row["low"] is None or row["n"] < 4:
        return f"{short(row['mean'])} ({', '.join(short(value) for value in values)})"
    return f"{short(row['mean'])} [{short(row['low'])}, {short(row['high'])}]"

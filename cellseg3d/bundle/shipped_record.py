"""Read what was measured about the weights of a bundle.

Each bundle with weights has one JSON file, from which its card and metadata are made.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.bundle.compose import read_config

RECORDS = ("benchmarks", "records", "weights")


def record_path(checkout: Path, name: str) -> Path:
    """Return the file of a checkout that holds the record of a bundle's weights."""
    return checkout.joinpath(*RECORDS, f"{name}.json")


def read_record(checkout: Path, name: str) -> dict[str, Any] | None:
    """Return the record of a bundle's weights; None if the bundle has no weights."""
    path = record_path(checkout, name)
    return read_config(path) if path.is_file() else None


def measured(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the scores that have a number."""
    return [row for row in record["scores"] if row["mean"] is not None]


def eval_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return mean scores by class, metric and condition, for ``metadata.json``."""
    return {
        f"{row['class']} {row['metric']}, {row['condition']}": row["mean"]
        for row in measured(record)
    }


def overall(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the mean over all conditions of each class and metric.

    Returns
    -------
    list of dict
        Each has ``class``, ``metric``, ``mean``, ``conditions`` (how many) and ``n``,
        the number of volumes in all conditions together.
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
    """Return the scores in one line, such as ``nucleus Dice .930 (n = 66)``."""
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
    """Return a score for a table, such as ``.931`` or ``1.000``; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.3f}".removeprefix("0")


def interval(row: Mapping[str, Any]) -> str:
    """Return the mean with its interval, or with every value if volumes are few."""
    values: Sequence[float | None] = row["values"]
    if row["low"] is None or row["n"] < 4:
        return f"{short(row['mean'])} ({', '.join(short(value) for value in values)})"
    return f"{short(row['mean'])} [{short(row['low'])}, {short(row['high'])}]"

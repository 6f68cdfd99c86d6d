"""Summarise scores over volumes, and write scores as JSON and CSV."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellseg3d.core.atomic import atomic_write, write_text
from cellseg3d.metrics.overlap import SCORES
from cellseg3d.metrics.statistics import Summary, summarise
from cellseg3d.scoring.evaluate import Evaluation

# These depend on the size of a volume or on an option, so they are not averaged.
_NO_MEAN = ("tp", "fp", "fn", "tn", "n_slices", "tolerance_um")


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the scores as values for JSON: NaN as None, infinity as ``"inf"``.

    Returns
    -------
    dict
        ``volumes`` {name: {class: {score: value}}}, ``mean`` {class: {score: mean over
        volumes, n, n_undefined {score: count}}}, ``statistics`` {class: {score: mean,
        sd, low, high, n, n_undefined, note}}, ``voxels`` {name: accuracy over all
        classes, annotated_voxels}, ``objects`` {name: {class: {score: value}}} and
        ``objects_mean`` if asked for, ``curves`` {name: {class: {roc, reliability}}}
        if probabilities are scored, ``files`` and ``unmatched``.
    """
    named = list(zip(evaluation.pairs, evaluation.scored, strict=True))
    statistics = summaries(evaluation)
    values: dict[str, Any] = {
        "volumes": {pair.name: scored.classes for pair, scored in named},
        "mean": {name: _means(found) for name, found in statistics.items()},
        "statistics": {
            name: {score: summary.as_dict() for score, summary in found.items()}
            for name, found in statistics.items()
        },
        "voxels": {
            pair.name: {
                "accuracy": scored.accuracy,
                "annotated_voxels": scored.annotated_voxels,
            }
            for pair, scored in named
        },
        "n": len(named),
        "files": {
            pair.name: {"prediction": pair.prediction, "truth": pair.truth}
            for pair, _ in named
        },
        "unmatched": {
            "predictions": list(evaluation.unmatched_predictions),
            "truths": list(evaluation.unmatched_truths),
        },
    }
    notes = {pair.name: list(scored.notes) for pair, scored in named if scored.notes}
    if notes:
        values["notes"] = notes
    if any(scored.objects for _, scored in named):
        values["objects"] = {pair.name: scored.objects for pair, scored in named}
        objects = summaries(evaluation, objects=True)
        values["objects_mean"] = {name: _means(each) for name, each in objects.items()}
    if any(scored.curves for _, scored in named):
        values["curves"] = {pair.name: scored.curves for pair, scored in named}
    plain: dict[str, Any] = plain_numbers(values)
    return plain


def summaries(
    evaluation: Evaluation, *, objects: bool = False
) -> dict[str, dict[str, Summary]]:
    """Return the mean of each score over volumes (or specimens), by class.

    If the truth of a volume does not annotate a class, its scores count as undefined.
    """
    tables = [
        scored.objects if objects else scored.classes for scored in evaluation.scored
    ]
    groups = [pair.group for pair in evaluation.pairs]
    names = dict.fromkeys(name for table in tables for name in table)
    return {
        name: {
            score: summarise(
                [float(table.get(name, {}).get(score, math.nan)) for table in tables],
                groups,
            )
            for score in _scores_of(tables, name)
        }
        for name in names
    }


def rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one flat row for each volume and class, with voxel and object scores."""
    return [
        {
            "volume": pair.name,
            "group": pair.group,
            "class": name,
            **scores,
            **{
                key if key not in scores else f"object_{key}": value
                for key, value in scored.objects.get(name, {}).items()
                if isinstance(value, int | float)
            },
        }
        for pair, scored in zip(evaluation.pairs, evaluation.scored, strict=True)
        for name, scores in scored.classes.items()
    ]


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write the result of `as_json` to a file."""
    text = json.dumps(as_json(evaluation), indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """Write the result of `rows` to a file, with empty cells for undefined scores."""
    table = [
        {as_cell(key): as_cell(value) for key, value in row.items()}
        for row in rows(evaluation)
    ]
    columns = list(dict.fromkeys(key for row in table for key in row))

    def write(new: Path) -> None:
        with new.open(
            "w", encoding="utf-8", errors="backslashreplace", newline=""
        ) as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(table)

    atomic_write(path, write)


def plain_numbers(values: Any) -> Any:  # noqa: ANN401 - JSON is anything
    """Return nested values with NaN as None and infinities as ``"inf"``, ``"-inf"``."""
    if isinstance(values, Mapping):
        return {str(key): plain_numbers(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [plain_numbers(value) for value in values]
    if isinstance(values, float) and not math.isfinite(values):
        return None if math.isnan(values) else str(values)
    return values


def as_cell(value: Any) -> Any:  # noqa: ANN401 - a cell is anything
    """Return a value as a CSV cell; NaN becomes an empty cell.

    A spreadsheet treats a text that begins with ``=``, ``+``, ``-`` or ``@`` as a
    formula. An apostrophe before it prevents that, for names of files and classes.
    """
    if isinstance(value, float) and math.isnan(value):
        return ""
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t"))
    return f"'{value}" if formula else value


def _scores_of(tables: list[dict[str, dict[str, Any]]], name: str) -> list[str]:
    found: dict[str, None] = dict.fromkeys(SCORES) if "dice" in tables[0] else {}
    for table in tables:
        for score, value in table.get(name, {}).items():
            if isinstance(value, int | float) and score not in _NO_MEAN:
                found[score] = None
    return list(found)


def _means(found: Mapping[str, Summary]) -> dict[str, Any]:
    """Return the mean of each score, n, and the number of undefined scores."""
    return {
        **{score: summary.mean for score, summary in found.items()},
        "n": max((summary.n for summary in found.values()), default=0),
        "n_undefined": {score: summary.n_undefined for score, summary in found.items()},
    }

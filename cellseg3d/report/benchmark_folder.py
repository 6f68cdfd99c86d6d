"""What a benchmark's records say: quality against time and memory, data set by set.

A record is one JSON of ``records/``: a method on a fold of a data set with a seed. The
unit of every mean is the specimen: folds and seeds of one specimen are averaged first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellseg3d.metrics.overlap import mean_defined
from cellseg3d.metrics.statistics import Summary, summarise
from cellseg3d.report.charts import Axes, Interval, interval_chart, scatter_chart
from cellseg3d.report.figures import safe
from cellseg3d.report.run_folder import read_json
from cellseg3d.report.tables import NAMES, text

RECORDS = "records"
SCORES = ("dice", "jaccard", "mean_dice", "object_f1", "hd95_um", "assd_um")


@dataclass(frozen=True)
class BenchmarkFolder:
    """The records of a benchmark."""

    path: Path
    records: Sequence[Mapping[str, Any]]

    @property
    def datasets(self) -> list[str]:
        """The data sets, in the order of the records."""
        return list(dict.fromkeys(str(row["dataset"]) for row in self.records))

    def methods(self, dataset: str) -> dict[str, list[Mapping[str, Any]]]:
        """Return the finished records of each method on a data set."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for row in self.records:
            if row["dataset"] == dataset and row["state"] == "done":
                found.setdefault(str(row["method"]), []).append(row)
        return found


def is_benchmark(folder: Path) -> bool:
    """Whether a folder holds the records of a benchmark."""
    return any((folder / RECORDS).glob("*.json"))


def read_benchmark(folder: Path) -> BenchmarkFolder:
    """Return a benchmark's records, in the order of their names."""
    paths = sorted((folder / RECORDS).glob("*.json"))
    return BenchmarkFolder(folder, [read_json(path) for path in paths])


def benchmark_sections(benchmark: BenchmarkFolder) -> list[dict[str, Any]]:
    """Return, for each data set, its table and its charts.

    Returns
    -------
    list of dict
        ``name``, ``target`` (the class scored), ``table`` (head, rows), ``intervals``
        and ``charts`` (title, svg), ``notes``.
    """
    return [_section(benchmark, name) for name in benchmark.datasets]


def left_out(benchmark: BenchmarkFolder) -> list[tuple[str, str]]:
    """Return what failed or was skipped, and why."""
    return [
        (f"{row['dataset']}, {row['method']}, seed {row['seed']}", str(row["reason"]))
        for row in benchmark.records
        if row["state"] != "done"
    ]


def unit_scores(records: Sequence[Mapping[str, Any]], score: str) -> dict[str, float]:
    """Return each specimen's mean of a score, over its volumes, folds and seeds."""
    values: dict[str, list[float]] = {}
    for record in records:
        for name, volume in record["volumes"].items():
            found = volume["scores"].get(score)
            value = math.nan if found is None else float(found)
            values.setdefault(str(volume.get("unit", name)), []).append(value)
    return {unit: mean_defined(each)[0] for unit, each in values.items()}


def _section(benchmark: BenchmarkFolder, dataset: str) -> dict[str, Any]:
    methods = benchmark.methods(dataset)
    target = next(
        row["target"] for row in benchmark.records if row["dataset"] == dataset
    )
    means = {
        method: {score: _summary(rows, score) for score in SCORES}
        for method, rows in methods.items()
    }
    shown = [score for score in SCORES if any(row[score].n for row in means.values())]
    costs = {method: _costs(rows) for method, rows in methods.items()}
    head = [
        "method",
        *(NAMES.get(score, score.replace("_", " ")) for score in shown),
        *("n", "seeds", "training (min)", "prediction (s)", "peak (GiB)", "parameters"),
    ]
    rows = [
        [
            method,
            *(text(means[method][score].mean) for score in shown),
            str(means[method]["dice"].n),
            str(len({record["seed"] for record in records})),
            *costs[method]["cells"],
        ]
        for method, records in methods.items()
    ]
    notes = dict.fromkeys(row["dice"].note for row in means.values())
    return {
        "name": dataset,
        "target": str(target),
        "table": {"head": head, "rows": rows},
        "intervals": _intervals(methods, means),
        "charts": _pareto(means, costs),
        "notes": [note for note in notes if note],
    }


def _summary(records: Sequence[Mapping[str, Any]], score: str) -> Summary:
    return summarise(list(unit_scores(records, score).values()))


def _costs(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def mean(part: str, key: str) -> float:
        values = [float(row[part].get(key, math.nan)) for row in records]
        return mean_defined(values)[0]

    train, predict = mean("training", "elapsed_s"), mean("prediction", "elapsed_s")
    peaks = [mean(part, "peak_gib") for part in ("training", "prediction")]
    peak = float(np.nanmax(peaks)) if not np.isnan(peaks).all() else math.nan
    size = f"{max(int(row['parameters']) for row in records):,}"
    cells = [text(train / 60), text(predict), text(peak), size]
    return {"predict_s": predict, "peak_gib": peak, "cells": cells}


def _intervals(
    methods: Mapping[str, Sequence[Mapping[str, Any]]],
    means: Mapping[str, Mapping[str, Summary]],
) -> Any:  # noqa: ANN401
    rows = []
    for method, records in methods.items():
        found = means[method]["dice"]
        known = not found.note
        low, high = (found.low, found.high) if known else (math.nan, math.nan)
        points = list(unit_scores(records, "dice").items())
        rows.append(Interval(method, found.mean, low, high, points))
    return safe(interval_chart(rows, "Dice; a dot is a specimen, the bar their mean"))


def _pareto(
    means: Mapping[str, Mapping[str, Summary]], costs: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return Dice against time and memory; coloured points are beaten by none."""
    wanted = (("predict_s", "prediction (s)"), ("peak_gib", "peak memory (GiB)"))
    found = []
    for key, label in wanted:
        points = [(name, costs[name][key], means[name]["dice"].mean) for name in means]
        if any(math.isfinite(x) and math.isfinite(y) for _, x, y in points):
            svg = safe(scatter_chart(points, Axes(label, "Dice")))
            found.append({"title": f"Dice against {label}", "svg": svg})
    return found

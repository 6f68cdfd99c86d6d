"""The benchmark part of a page: quality against time and memory per data set.

All numbers come from ``benchmark.json``, which a benchmark writes from its records.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg3d.core.form import ANY, check_form
from cellseg3d.report.charts import Axes, Interval, interval_chart, scatter_chart
from cellseg3d.report.figures import safe
from cellseg3d.report.run_folder import read_json
from cellseg3d.report.tables import NAMES, text

VALUES = "benchmark.json"
_NUMBER = (float, None, "inf")
_SCORE = {
    "n": int,
    "note": (str, None),
    **dict.fromkeys(("mean", "low", "high"), _NUMBER),
}
_COSTS = {ANY: _NUMBER}
_METHOD = {
    "scores": {"dice": _SCORE, ANY: _SCORE},
    "units": {"dice": {ANY: _NUMBER}},
    "training": _COSTS,
    "prediction": _COSTS,
    "seeds": [int],
    "parameters": int,
}
_PAIR = {
    **dict.fromkeys(("method", "against"), str),
    **dict.fromkeys(("difference", "low", "high"), _NUMBER),
    **dict.fromkeys(("p_permutation", "p_holm"), _NUMBER),
    "n": int,
    "note": (str, None),
}
_FORM = {
    "datasets": {
        ANY: {
            "target": str,
            "methods": {ANY: _METHOD},
            "comparison": [_PAIR],
            "warnings": [str],
        }
    },
    "incomplete": [{"key": str, "state": str, "reason": str}],
    "clocks?": [str],
}


@dataclass(frozen=True)
class BenchmarkFolder:
    """A benchmark's folder and the values of its ``benchmark.json``."""

    path: Path
    values: Mapping[str, Any]


def is_benchmark(folder: Path) -> bool:
    """Return whether a folder holds the results of a benchmark."""
    return (folder / VALUES).is_file()


def read_benchmark(folder: Path) -> BenchmarkFolder:
    """Return a benchmark's results.

    Raises
    ------
    ConfigError, FormatError
        If its values cannot be read, or are not those that a benchmark writes.
    """
    values = read_json(folder / VALUES)
    check_form(values, _FORM, str(folder / VALUES))
    return BenchmarkFolder(folder, values)


def benchmark_sections(benchmark: BenchmarkFolder) -> list[dict[str, Any]]:
    """Return the tables and charts of each data set.

    Returns
    -------
    list of dict
        ``name``, ``target`` (the class scored), ``table`` and ``comparison`` (head and
        rows), ``intervals`` and ``charts`` (title, svg), ``notes``.
    """
    datasets = benchmark.values["datasets"]
    clock = "cpu_s" if benchmark.values.get("clocks") == ["cpu"] else "elapsed_s"
    return [_section(name, facts, clock) for name, facts in datasets.items()]


def left_out(benchmark: BenchmarkFolder) -> list[tuple[str, str]]:
    """Return the jobs that failed or were skipped, each with the reason."""
    return [
        (f"{row['key']} ({row['state']})", str(row["reason"]))
        for row in benchmark.values["incomplete"]
    ]


def _section(name: str, facts: Mapping[str, Any], clock: str) -> dict[str, Any]:
    methods = facts["methods"]
    notes = [each["scores"]["dice"]["note"] for each in methods.values()]
    notes += [row["note"] for row in facts["comparison"]]
    notes += facts["warnings"]
    return {
        "name": name,
        "target": facts["target"],
        "table": _table(methods, clock),
        "comparison": _comparison(facts["comparison"]),
        "intervals": _intervals(methods),
        "charts": _pareto(methods, clock),
        "notes": [note for note in dict.fromkeys(notes) if note],
    }


def _table(methods: Mapping[str, Any], clock: str) -> dict[str, Any]:
    """Return means over specimens and costs, one row per method."""
    scores = {
        score: None
        for facts in methods.values()
        for score, found in facts["scores"].items()
        if found["n"]
    }
    names = [NAMES.get(score, score.replace("_", " ")) for score in scores]
    cpu = "CPU " if clock == "cpu_s" else ""
    costs = ["n", "seeds", f"training ({cpu}min)", f"prediction ({cpu}s)", "peak (GiB)"]
    rows = [
        [
            method,
            *(text(facts["scores"].get(score, {}).get("mean")) for score in scores),
            str(facts["scores"]["dice"]["n"]),
            str(len(facts["seeds"])),
            text(_number(facts["training"].get(clock)) / 60),
            text(_number(facts["prediction"].get(clock))),
            text(_peak(facts)),
            f"{facts['parameters']:,}",
        ]
        for method, facts in methods.items()
    ]
    return {"head": ["method", *names, *costs, "parameters"], "rows": rows}


def _comparison(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the paired comparisons of Dice, the first method minus the second."""
    rows = [
        [
            row["method"],
            row["against"],
            text(row["difference"]),
            f"{text(row['low'])} to {text(row['high'])}",
            str(row["n"]),
            text(row["p_permutation"]),
            text(row["p_holm"]),
        ]
        for row in pairs
    ]
    head = ["method", "against", "difference in Dice", "95 % interval", "n", "p"]
    return {"head": [*head, "p (Holm)"], "rows": rows}


def _intervals(methods: Mapping[str, Any]) -> Any:  # noqa: ANN401
    rows = []
    for method, facts in methods.items():
        found = facts["scores"]["dice"]
        mean, low, high = (_number(found[key]) for key in ("mean", "low", "high"))
        if found["note"]:  # Too few specimens: the points say it all.
            low = high = math.nan
        units = facts["units"]["dice"].items()
        points = [(unit, _number(value)) for unit, value in units]
        rows.append(Interval(method, mean, low, high, points))
    return safe(interval_chart(rows, "Dice; a dot is a specimen, the bar their mean"))


def _pareto(methods: Mapping[str, Any], clock: str) -> list[dict[str, Any]]:
    """Return charts of Dice against time and memory, with the Pareto front ringed."""
    found = []
    seconds = "CPU s" if clock == "cpu_s" else "s"
    for label, cost in (
        (f"prediction ({seconds})", lambda facts: facts["prediction"].get(clock)),
        ("peak memory (GiB)", _peak),
    ):
        points = [
            (name, _number(cost(facts)), _number(facts["scores"]["dice"]["mean"]))
            for name, facts in methods.items()
        ]
        if any(math.isfinite(x) and math.isfinite(y) for _, x, y in points):
            svg = safe(scatter_chart(points, Axes(label, "Dice")))
            found.append({"title": f"Dice against {label}", "svg": svg})
    return found


def _peak(facts: Mapping[str, Any]) -> float:
    stages = (facts["training"], facts["prediction"])
    peaks = [_number(stage.get("peak_gib")) for stage in stages]
    return max((peak for peak in peaks if math.isfinite(peak)), default=math.nan)


def _number(value: Any) -> float:  # noqa: ANN401
    """Return the number that a JSON value means: None is NaN, ``"inf"`` infinite."""
    return math.nan if value is None else float(value)

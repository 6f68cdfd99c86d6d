"""Compute means, intervals and paired comparisons from the records of a study."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellseg3d.benchmark.curve import Trend, last_of, rise_of, trend_of
from cellseg3d.benchmark.record import Record, number
from cellseg3d.metrics.comparison import compare_paired, holm
from cellseg3d.metrics.overlap import mean_defined
from cellseg3d.metrics.statistics import Summary, summarise

SCORES = ("dice", "jaccard", "object_f1", "hd95_um", "assd_um", "mean_dice")
Units = dict[str, float]
WORST_FIRST: tuple[Trend, ...] = ("not begun", "rising", "unknown", "converged")
# No conclusion is drawn about a method with one of these trends.
UNDECIDED: tuple[Trend, ...] = ("not begun", "rising")


def summarise_study(
    records: Sequence[Record],
    methods: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """Return all the numbers of tables and pictures as plain values.

    Parameters
    ----------
    records : sequence of Record
    methods : sequence of str
        The methods in the order of the tables.
    pairs : sequence of (str, str)
        Pairs of methods to compare; the difference is the first minus the second.

    Returns
    -------
    dict
        ``datasets`` {name: {``target``, ``methods`` {method: scores, costs, units,
        curves, trend}, ``comparison`` [rows], ``warnings``}}, ``pooled`` [rows over the
        units of all data sets with the longest budget], ``incomplete`` [records that
        failed or were skipped], ``minutes``. With several budgets, each data set has
        an entry for each of them, whose name holds the minutes.
    """
    budgets = sorted({record.minutes for record in records}, reverse=True)
    groups: dict[str, list[Record]] = {}
    for minutes in budgets:
        for record in records:
            if record.minutes == minutes:
                end = f", {minutes:g} min" if len(budgets) > 1 else ""
                groups.setdefault(f"{record.dataset}{end}", []).append(record)
    done = [record for record in records if record.state == "done"]
    datasets = {
        name: _dataset([each for each in mine if each in done], methods, pairs)
        for name, mine in groups.items()
    }
    longest = {
        name: facts
        for name, facts in datasets.items()
        if groups[name][0].minutes == budgets[0]
    }
    return {
        "datasets": datasets,
        "pooled": _pooled(longest, methods, pairs) if len(longest) > 1 else [],
        "incomplete": [
            {"key": r.key, "state": r.state, "reason": r.reason}
            for r in records
            if r.state != "done"
        ],
        "minutes": budgets,
        "clocks": sorted({str(r.recipe.get("clock", "wall")) for r in records}),
        "seeds": sorted({record.seed for record in records}),
        "machines": _machines(done),
        "versions": _versions(done),
    }


def unit_scores(records: Sequence[Record], score: str) -> Units:
    """Return a score for each unit, averaged over seeds and then over its volumes.

    Parameters
    ----------
    records : sequence of Record
        Records of one method on one data set.
    score : str

    Returns
    -------
    dict
        Mean of each unit; NaN where it is defined for no seed.
    """
    by_volume: dict[str, list[float]] = {}
    unit_of: dict[str, str] = {}
    for record in records:
        for volume, facts in record.volumes.items():
            by_volume.setdefault(volume, []).append(record.score(volume, score))
            unit_of[volume] = str(facts["unit"])
    by_unit: dict[str, list[float]] = {}
    for volume, values in by_volume.items():
        by_unit.setdefault(unit_of[volume], []).append(mean_defined(values)[0])
    return {unit: mean_defined(values)[0] for unit, values in by_unit.items()}


def _dataset(
    mine: Sequence[Record],
    methods: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    found = {
        method: _method([record for record in mine if record.method == method])
        for method in methods
        if any(record.method == method for record in mine)
    }
    units = {method: facts["units"]["dice"] for method, facts in found.items()}
    best = max((last_of(record.curve) for record in mine), default=0.0)
    for facts in found.values():
        curves = facts["curves"].values()
        facts["trend"] = _worst([trend_of(curve, best) for curve in curves])
    for facts in found.values():
        if facts["of"]:
            used = [found[name]["trend"] for name in facts["of"] if name in found]
            facts["trend"] = _worst(used)
    rows = compare(units, pairs)
    for row in rows:
        row["undecided"] = [
            name
            for name in (row["method"], row["against"])
            if found[name]["trend"] in UNDECIDED
        ]
    return {
        "target": mine[0].target if mine else "",
        "methods": found,
        "comparison": rows,
        "warnings": list(dict.fromkeys(w for r in mine for w in r.warnings)),
    }


def _method(records: Sequence[Record]) -> dict[str, Any]:
    """Return scores and costs of one method on one data set."""
    units = {score: unit_scores(records, score) for score in SCORES}
    return {
        "units": units,
        "scores": {score: _summary(values) for score, values in units.items()},
        "classes": _classes(records),
        "of": list(records[0].recipe.get("method", {}).get("of", ())),
        "curves": {record.key: record.curve for record in records if record.curve},
        "rise": mean_defined([rise_of(record.curve) for record in records])[0],
        "sd_over_seeds": _seed_spread(records),
        "seeds": sorted({record.seed for record in records}),
        "runs": len(records),
        "training": _costs(records, "training"),
        "prediction": _costs(records, "prediction"),
        "parameters": max(record.parameters for record in records),
    }


def _worst(trends: Sequence[Trend]) -> Trend:
    """Return the trend that allows the least to be concluded."""
    return next((each for each in WORST_FIRST if each in trends), "unknown")


def _classes(records: Sequence[Record]) -> dict[str, float]:
    """Return the mean Dice of each class over volumes and seeds."""
    values: dict[str, list[float]] = {}
    for record in records:
        for facts in record.volumes.values():
            for name, dice in facts.get("classes", {}).items():
                values.setdefault(name, []).append(number(dice))
    return {name: mean_defined(each)[0] for name, each in values.items()}


def _summary(values: Units) -> dict[str, Any]:
    summary: Summary = summarise(list(values.values()))
    return summary.as_dict()


def _seed_spread(records: Sequence[Record]) -> float:
    """Return the standard deviation of the mean Dice over seeds."""
    means = [
        mean_defined(list(unit_scores(same, "dice").values()))[0]
        for seed in {record.seed for record in records}
        if (same := [record for record in records if record.seed == seed])
    ]
    return float(np.std(means, ddof=1)) if len(means) > 1 else math.nan


def _costs(records: Sequence[Record], stage: str) -> dict[str, float]:
    """Return the mean cost of a stage per fold and seed; for memory the maximum."""
    values = [getattr(record, stage) for record in records]
    means = {
        name: sum(float(each[name]) for each in values) / len(values)
        for name in values[0]
        if all(name in each for each in values)
    }
    return {**means, "peak_gib": max(float(each["peak_gib"]) for each in values)}


def compare(
    units: Mapping[str, Units], pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Compare pairs of methods on the units that both have scores for.

    Parameters
    ----------
    units : mapping
        For each method, the score of each unit.
    pairs : sequence of (str, str)
        Pairs to compare; a pair with a method that has no score is left out.

    Returns
    -------
    list of dict
        The fields of `PairedComparison`, with ``method``, ``against`` and ``p_holm``,
        the p value corrected for the number of pairs.
    """
    rows = []
    for method, against in pairs:
        if method not in units or against not in units:
            continue
        first, second = units[method], units[against]
        both = [unit for unit in second if unit in first]
        pair = compare_paired([first[u] for u in both], [second[u] for u in both])
        rows.append({"method": method, "against": against, **pair.as_dict()})
    for row, p in zip(rows, holm([row["p_permutation"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def _pooled(
    datasets: Mapping[str, Any],
    methods: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> list[dict[str, Any]]:
    """Compare methods over the units of all data sets together."""
    units: dict[str, Units] = {}
    for name, facts in datasets.items():
        for method in methods:
            if method in facts["methods"]:
                mine = facts["methods"][method]["units"]["dice"]
                into = units.setdefault(method, {})
                into |= {f"{name}/{unit}": value for unit, value in mine.items()}
    return compare(units, pairs)


def _machines(records: Sequence[Record]) -> list[str]:
    return list(
        dict.fromkeys(
            f"{r.machine.get('system')}, {r.machine.get('threads')} threads, "
            f"GPU: {r.machine.get('gpu') or 'none'}"
            for r in records
        )
    )


def _versions(records: Sequence[Record]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            listed = found.setdefault(name, [])
            if version not in listed:
                listed.append(version)
    return found

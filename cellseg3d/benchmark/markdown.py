"""The tables of a study as Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cellseg3d.benchmark.curve import RULE
from cellseg3d.benchmark.record import number
from cellseg3d.benchmark.summary import UNDECIDED
from cellseg3d.metrics.statistics import MIN_FOR_INTERVAL

ALL_CLASSES = "mean Dice, all classes"
PICTURE = "pareto.png"
CURVES = "curves.png"
BUDGETS = {"wall": "by the clock", "cpu": "in processor time"}
HEADS = (
    "method",
    "Dice, mean [95 % interval]",
    "n",
    "sd over seeds (n)",
    "Jaccard",
    "object F1",
    "HD95 um",
    "ASSD um",
    "train s (CPU s)",
    "predict s",
    "peak GiB",
    "parameters",
)


def markdown(title: str, question: str, summary: Mapping[str, Any]) -> str:
    """Return the report: for each data set scores, every point, comparison, warnings.

    Parameters
    ----------
    title, question : str
    summary : mapping
        Of `cellseg3d.benchmark.summary.summarise_study`.
    """
    picture = f"![Dice against time and memory]({PICTURE})"
    every = [
        m for facts in summary["datasets"].values() for m in facts["methods"].values()
    ]
    if any(each["curves"] for each in every):
        picture += f"\n\n![Validation curves]({CURVES})"
    parts = [f"# {title}", question, _terms(summary), _overview(summary), picture]
    for name, facts in summary["datasets"].items():
        parts += _dataset(name, facts)
    if summary["pooled"]:
        parts += [
            "## All data sets together",
            "Every volume of every data set is one pair; Dice of its target class.",
            _comparison(summary["pooled"]),
        ]
    if summary["incomplete"]:
        parts += ["## What did not run", _incomplete(summary["incomplete"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _terms(summary: Mapping[str, Any]) -> str:
    minutes = " and ".join(f"{value:g}" for value in summary["minutes"])
    clocks = " and ".join(BUDGETS[each] for each in summary["clocks"])
    seeds = ", ".join(map(str, summary["seeds"]))
    versions = ", ".join(
        f"{name} {' and '.join(each)}" for name, each in summary["versions"].items()
    )
    lines = [
        f"Budget: {minutes} min of training {clocks} for every network; seeds {seeds}. "
        "Methods that fuse networks cost what all of these cost.",
        "n counts volumes (specimens where these are independent), never slices; seeds "
        "are averaged first. Undefined scores are left out and counted.",
        f"{RULE}. *Methods in italics* were still rising or had not begun, and no "
        "conclusion is drawn about them.",
        *(f"Machine: {machine}." for machine in summary["machines"]),
        f"Versions: {versions}." if versions else "",
    ]
    return "  \n".join(line for line in lines if line)


def _overview(summary: Mapping[str, Any]) -> str:
    """Return the mean Dice of every method on every data set, where there are some."""
    shown = summary["datasets"]
    if len(shown) < 2:
        return ""
    names = dict.fromkeys(m for facts in shown.values() for m in facts["methods"])
    heads = ["Dice, mean"]
    heads += [f"{name}: {facts['target']}" for name, facts in shown.items()]
    rows = [
        [
            method,
            *(
                _marked(
                    show(facts["methods"][method]["scores"]["dice"]["mean"]),
                    facts["methods"][method],
                )
                if method in facts["methods"]
                else "-"
                for facts in shown.values()
            ),
        ]
        for method in names
    ]
    return table(heads, rows)


def _dataset(name: str, facts: Mapping[str, Any]) -> list[str]:
    if not facts["methods"]:
        return [f"## {name}", "No cell has finished yet."]
    heads, rows = _scores(facts["methods"])
    return [
        f"## {name}: {facts['target']}",
        *(f"> {warning}" for warning in facts["warnings"]),
        table(heads, rows),
        _note(facts["methods"]),
        _classes(facts["methods"]),
        "### What each training did",
        _training(facts["methods"]),
        _points(facts["methods"]),
        "### Differences of Dice, volume by volume",
        _comparison(facts["comparison"]),
    ]


def _scores(methods: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows; all classes get a column where there are several."""
    rows = [_row(method, facts) for method, facts in methods.items()]
    units = [facts["units"] for facts in methods.values()]
    if all(_same(each["dice"], each["mean_dice"]) for each in units):
        return list(HEADS), rows
    for row, facts in zip(rows, methods.values(), strict=True):
        row.insert(2, _mean(facts["scores"]["mean_dice"]))
    return [*HEADS[:2], ALL_CLASSES, *HEADS[2:]], rows


def _same(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    """Return whether two scores agree wherever both are defined."""
    both = [(first[unit], second[unit]) for unit in first]
    return all(a == b for a, b in both if not (math.isnan(a) or math.isnan(b)))


def _row(method: str, facts: Mapping[str, Any]) -> list[str]:
    scores, dice = facts["scores"], facts["scores"]["dice"]
    interval = f" [{show(dice['low'])}, {show(dice['high'])}]" if dice["n"] > 1 else ""
    peak = max(facts["training"]["peak_gib"], facts["prediction"]["peak_gib"])
    return [
        _marked(method, facts),
        f"{show(dice['mean'])}{interval}",
        str(dice["n"]),
        f"{show(facts['sd_over_seeds'])} ({len(facts['seeds'])})",
        *(_mean(scores[name]) for name in ("jaccard", "object_f1")),
        *(_mean(scores[name]) for name in ("hd95_um", "assd_um")),
        f"{facts['training']['elapsed_s']:.0f} ({facts['training']['cpu_s']:.0f})",
        f"{facts['prediction']['volumes_s']:.1f}",
        f"{peak:.2f}",
        f"{facts['parameters']:,}",
    ]


def _marked(text: str, facts: Mapping[str, Any]) -> str:
    """Return a text in italics if no conclusion is drawn about the method."""
    return f"*{text}*" if facts["trend"] in UNDECIDED else text


def _classes(methods: Mapping[str, Any]) -> str:
    """Return the Dice of each class, where there are several."""
    names = list(dict.fromkeys(n for each in methods.values() for n in each["classes"]))
    if len(names) < 2:
        return ""
    rows = [
        [
            _marked(method, facts),
            *(show(facts["classes"].get(name, math.nan)) for name in names),
        ]
        for method, facts in methods.items()
    ]
    return table(["Dice of every class", *names], rows)


def _training(methods: Mapping[str, Any]) -> str:
    """Return steps, voxels, processor time and the end of the validation curve."""
    heads = ["method", "steps", "million voxels seen", "CPU s", "validation: points"]
    heads += ["last mean Dice", "rise over the last half", "state at the end"]
    rows = []
    for method, facts in methods.items():
        curves, training = list(facts["curves"].values()), facts["training"]
        last = [number(curve[-1]["mean_dice"]) for curve in curves]
        rows.append(
            [
                _marked(method, facts),
                f"{training.get('steps', math.nan):.0f}",
                f"{training.get('voxels', math.nan) / 1e6:.1f}",
                f"{training['cpu_s']:.0f}",
                str(len(curves[0])) if curves else "-",
                show(sum(last) / len(last)) if last else "-",
                show(facts["rise"], sign=True),
                facts["trend"],
            ]
        )
    return table(heads, rows)


def _mean(summary: Mapping[str, Any]) -> str:
    """Return a mean, with n when the score is undefined for some volumes."""
    undefined = summary["n_undefined"]
    return show(summary["mean"]) + (f" (n = {summary['n']})" if undefined else "")


def _note(methods: Mapping[str, Any]) -> str:
    notes = [facts["scores"]["dice"]["note"] for facts in methods.values()]
    return next((f"*{note}.*" for note in notes if note), "")


def _points(methods: Mapping[str, Any]) -> str:
    """Return the Dice of every volume when there are too few for an interval."""
    units = list(
        dict.fromkeys(u for each in methods.values() for u in each["units"]["dice"])
    )
    if len(units) >= MIN_FOR_INTERVAL:
        return ""
    rows = [
        [name, *(show(facts["units"]["dice"].get(unit, math.nan)) for unit in units)]
        for name, facts in methods.items()
    ]
    return table(["Dice of every volume", *units], rows)


def _comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "Nothing to compare: no two methods of a pair have a record."
    heads = ["methods", "difference", "95 % interval", "effect d_z", "n"]
    body = [
        [
            _undecided(row),
            show(row["difference"], sign=True),
            f"[{show(row['low'], sign=True)}, {show(row['high'], sign=True)}]",
            show(row["effect"]),
            str(row["n"]),
            show(row["p_permutation"]),
            show(row["p_holm"]),
        ]
        for row in rows
    ]
    notes = dict.fromkeys(f"*{row['note']}.*" for row in rows if row["note"])
    return "\n\n".join([table([*heads, "p (sign flips)", "p (Holm)"], body), *notes])


def _undecided(row: Mapping[str, Any]) -> str:
    text = f"{row['method']} minus {row['against']}"
    names = row.get("undecided", ())
    return f"*{text}* (no conclusion: {' and '.join(names)})" if names else text


def _incomplete(rows: Sequence[Mapping[str, str]]) -> str:
    return "\n".join(f"- {row['key']}: {row['state']}: {row['reason']}" for row in rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all but the first column are right-aligned."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    lines = [heads, rule, *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in line) + " |"
        for line in lines
    )


def show(value: object, *, sign: bool = False) -> str:
    """Return a number with three decimals; a dash where it is undefined."""
    real = number(value)
    if math.isnan(real):
        return "-"
    return f"{real:+.3f}" if sign else f"{real:.3f}"

"""Draw quality against time and memory, with the Pareto front."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.benchmark.record import number
from cellseg3d.benchmark.summary import UNDECIDED
from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.figure import empty_figure
from cellseg3d.metrics.statistics import MIN_FOR_INTERVAL

# The palette of Okabe and Ito, distinguishable with any colour vision; shapes differ
# too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "0.7"
MARKERS = "osD^vP*Xph<>"
_MEMORY = ("memory", "peak_gib", "peak memory, GiB")
# Stage, field and axis label of each cost, for each clock of a study.
PANELS = {
    "wall": (
        ("training", "elapsed_s", "training, s"),
        ("prediction", "volumes_s", "prediction of the held-out volumes, s"),
        _MEMORY,
    ),
    "cpu": (
        ("training", "cpu_s", "training, CPU s, start included"),
        ("prediction", "cpu_s", "prediction, CPU s, start included"),
        _MEMORY,
    ),
}
SPAN_COST, SPAN_DICE = 4.0, 0.05
Point = tuple[float, float]


def draw_pareto(summary: Mapping[str, Any], path: Path) -> None:
    """Draw quality against cost, one row per data set; PNG or SVG by suffix.

    A method about which no conclusion is drawn is grey. Small dots are volumes. Bars
    are 95 % bootstrap intervals of the mean, drawn with 10 volumes or more. The grey
    line joins the methods on the Pareto front.

    Raises
    ------
    EnvironmentFault
        If matplotlib is missing.
    """
    shown = {n: f for n, f in summary["datasets"].items() if f["methods"]}
    names = list(dict.fromkeys(m for f in shown.values() for m in f["methods"]))
    figure = empty_figure(12, 3.4 * max(1, len(shown)) + 1.0, "report")
    panels = PANELS["cpu" if summary["clocks"] == ["cpu"] else "wall"]
    axes = figure.subplots(max(1, len(shown)), len(panels), squeeze=False, sharey="row")
    for row, (dataset, facts) in zip(axes, shown.items(), strict=False):
        for panel, axis in zip(panels, row, strict=True):
            _draw(axis, facts["methods"], panel, names)
        row[0].set_ylabel(f"Dice of {facts['target']}")
        row[0].set_title(dataset, loc="left", fontweight="bold")
    handles, labels = _legend(axes.ravel())
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(5, len(labels) or 1)
    )
    file_format = path.suffix.lstrip(".") or "png"
    atomic_write(path, lambda new: figure.savefig(new, dpi=150, format=file_format))


def draw_curves(summary: Mapping[str, Any], path: Path) -> None:
    """Draw the validation curve of every training, one panel per data set.

    Nothing is drawn, and a picture that is there is removed, if no record has a curve.
    """
    shown = {
        name: {m: each for m, each in facts["methods"].items() if each["curves"]}
        for name, facts in summary["datasets"].items()
    }
    shown = {name: methods for name, methods in shown.items() if methods}
    path.unlink(missing_ok=True)
    if not shown:
        return
    names = list(
        dict.fromkeys(m for f in summary["datasets"].values() for m in f["methods"])
    )
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = empty_figure(4.2 * columns, 3.2 * rows + 0.8, "report")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel()[len(shown) :]:
        axis.remove()
    for axis, (dataset, methods) in zip(axes.ravel(), shown.items(), strict=False):
        for method, facts in methods.items():
            look = names.index(method)
            for curve in facts["curves"].values():
                axis.plot(
                    [point["spent_s"] / 60 for point in curve],
                    [number(point["mean_dice"]) for point in curve],
                    color=COLOURS[look % len(COLOURS)],
                    marker=MARKERS[look % len(MARKERS)],
                    ms=4,
                    lw=1,
                    label=method,
                )
        axis.set_title(dataset, loc="left", fontweight="bold")
        axis.set_xlabel("training, minutes")
        axis.set_ylabel("validation, mean Dice")
        axis.grid(visible=True, alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = _legend(axes.ravel()[: len(shown)])
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(5, len(labels))
    )
    atomic_write(path, lambda new: figure.savefig(new, dpi=150, format="png"))


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other point beats in both cost and quality.

    Parameters
    ----------
    points : sequence of (cost, quality)
        Cost and quality of each point; points with a NaN are left out.

    Returns
    -------
    list of (cost, quality)
        The front, sorted by rising cost and quality.
    """
    front: list[Point] = []
    finite = [p for p in points if all(math.isfinite(value) for value in p)]
    for cost, quality in sorted(finite, key=lambda p: (p[0], -p[1])):
        if not front or quality > front[-1][1]:
            front.append((cost, quality))
    return front


def cost_of(facts: Mapping[str, Any], stage: str, name: str) -> float:
    """Return one cost of a method; memory is the larger of training and prediction."""
    if stage == "memory":
        return max(float(facts[each][name]) for each in ("training", "prediction"))
    return float(facts[stage][name])


def _draw(
    axis: Any,  # noqa: ANN401 - matplotlib has no types here
    methods: Mapping[str, Any],
    panel: tuple[str, str, str],
    names: Sequence[str],
) -> None:
    stage, cost_name, label = panel
    points = []
    for method, facts in methods.items():
        cost = cost_of(facts, stage, cost_name)
        dice = facts["scores"]["dice"]
        look = names.index(method)
        undecided = facts["trend"] in UNDECIDED
        colour = GREY if undecided else COLOURS[look % len(COLOURS)]
        values = list(facts["units"]["dice"].values())
        axis.plot([cost] * len(values), values, ".", color=colour, alpha=0.45, ms=6)
        if dice["n"] >= MIN_FOR_INTERVAL:
            axis.vlines(cost, dice["low"], dice["high"], color=colour, lw=1.4)
        axis.plot(
            cost,
            dice["mean"],
            MARKERS[look % len(MARKERS)],
            color=colour,
            ms=9,
            mec="white",
            mew=0.8,
            label=f"{method} (n = {dice['n']})",
        )
        if not undecided:
            points.append((cost, float(dice["mean"])))
    front = pareto_front(points)
    if front:
        axis.step(*zip(*front, strict=True), where="post", color="0.6", lw=1, zorder=0)
    axis.set_xscale("log")
    _widen(axis)
    _ticks(axis)
    axis.set_xlabel(label)
    axis.grid(visible=True, alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _widen(axis: Any) -> None:  # noqa: ANN401 - matplotlib has no types here
    """Show at least a factor of 4 in cost and 0.05 in Dice, so noise looks small."""
    low, high = axis.get_xlim()
    factor = math.sqrt(max(1.0, SPAN_COST / (high / low)))
    axis.set_xlim(low / factor, high * factor)
    bottom, top = axis.get_ylim()
    margin = max(0.0, SPAN_DICE - (top - bottom)) / 2
    axis.set_ylim(bottom - margin, top + margin)


def _ticks(axis: Any) -> None:  # noqa: ANN401 - matplotlib has no types here
    """Write plain numbers on a logarithmic axis, few enough to be readable."""
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415

    low, high = axis.get_xlim()
    subs = (1, 1.5, 2, 3, 5, 7) if high / low < 20 else (1, 2, 5)
    axis.xaxis.set_major_locator(LogLocator(subs=subs))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Any) -> tuple[list[Any], list[str]]:  # noqa: ANN401
    """Return each method once, without its n, which differs between data sets."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label.rsplit(" (n", 1)[0], handle)
    return list(found.values()), list(found)

"""Draw the charts of a page from scores and from a run's history."""

import math
from typing import Any

from cellseg3d.report.charts import Axes, Interval, Line, interval_chart, line_chart
from cellseg3d.report.evaluation import ReportScores
from cellseg3d.report.run_folder import RunFolder
from cellseg3d.report.tables import NAMES, text

SHOWN = ("dice", "jaccard", "precision", "recall")
PROBS = {
    "auc": "AUC",
    "threshold": "best threshold",
    "dice_at_threshold": "Dice there",
    "ece": "ECE",
    "brier": "Brier",
    "nll": "NLL",
}


def curve_charts(run: RunFolder) -> list[dict[str, Any]]:
    """Return charts of loss, validation score and learning rate over the training."""
    wanted = (
        ("loss", "Training loss", "mean loss", None, 1),
        ("score", "Validation", "mean Dice", (0.0, 1.0), 2),
        ("learning_rate", "Learning rate", "learning rate", None, 3),
    )
    found = []
    for key, title, label, limits, colour in wanted:
        points = run.curve(key)
        if points:
            line = Line(label, points, colour)
            axes = Axes("iteration", label, y_range=limits)
            found.append({"title": title, "svg": safe(line_chart([line], axes))})
    return found


def interval_figure(scores: ReportScores) -> Any:  # noqa: ANN401
    """Return a chart of each class's mean scores; None when there are none."""
    if not scores.table:
        return None
    rows = []
    shown = SHOWN[:2] if len(scores.table["statistics"]) > 2 else SHOWN
    for name, statistics in scores.table["statistics"].items():
        for score in shown:
            if score in statistics:
                found = statistics[score]
                points = [
                    (volume, _number(table.get(name, {}).get(score)))
                    for volume, table in scores.table["volumes"].items()
                    if scores.table["n"] > 1
                ]
                interval = (found["mean"], found["low"], found["high"])
                mean, low, high = (_number(value) for value in interval)
                if found["note"]:  # Too few volumes: the points say it all.
                    low = high = math.nan
                rows.append(
                    Interval(
                        f"{name}, {NAMES.get(score, score)}", mean, low, high, points
                    )
                )
    several = scores.table["n"] > 1
    label = "a dot is a volume, the bar their mean" if several else "score"
    return safe(interval_chart(rows, label))


def overlap_charts(scores: ReportScores) -> list[dict[str, Any]]:
    """Return precision, recall and AP against IoU, a chart for each class."""
    # AP equals precision where nothing is missed, so the curves must be told apart
    # where they lie on each other.
    named = (
        ("AP", "ap", "wide", 3),
        ("precision", "precision", "plain", 1),
        ("recall", "recall", "dashed", 2),
    )
    axes = Axes("intersection over union to match", "share", (0.5, 0.95), (0.0, 1.0))
    found = []
    for kind, rows in scores.by_iou.items():
        lines = [
            Line(label, [(row["iou"], row[key]) for row in rows], colour, style=style)
            for label, key, style, colour in named
        ]
        if rows:
            found.append({"title": kind, "svg": safe(line_chart(lines, axes))})
    return found


def calibration_charts(scores: ReportScores) -> dict[str, Any] | None:
    """Return reliability, ROC and a table of the probabilities; None without any."""
    if not scores.probabilities:
        return None
    bins, rates, rows = [], [], []
    for index, (volume, kind, found) in enumerate(scores.probabilities):
        name, colour = f"{volume}, {kind}", 1 + index % 4
        stated_true = [(row[0], row[1]) for row in found.curves["reliability"]]
        bins.append(Line(name, stated_true, colour, dots=True))
        rates.append(
            Line(name, [(row[1], row[2]) for row in found.curves["roc"]], colour)
        )
        rows.append([volume, kind, *(text(found.scores[key]) for key in PROBS)])
    stated = Axes("stated probability", "share that is true", (0.0, 1.0), (0.0, 1.0))
    ranked = Axes("false positive rate", "true positive rate", (0.0, 1.0), (0.0, 1.0))
    return {
        "charts": [
            {
                "title": "Reliability",
                "svg": safe(line_chart(bins, stated, diagonal=True)),
            },
            {"title": "ROC", "svg": safe(line_chart(rates, ranked, diagonal=True))},
        ],
        "head": ["volume", "class", *PROBS.values()],
        "rows": rows,
    }


def _number(value: Any) -> float:  # noqa: ANN401
    return float(value) if isinstance(value, int | float) else math.nan


def safe(svg: str) -> Any:  # noqa: ANN401
    """Mark an SVG as safe to insert, since `charts` escapes all text in it."""
    from markupsafe import Markup  # noqa: PLC0415

    return Markup(svg)

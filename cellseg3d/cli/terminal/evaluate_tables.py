"""The tables that ``cellseg3d evaluate`` prints, each at most 80 columns wide."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cellseg3d.metrics.statistics import Summary
from cellseg3d.scoring.evaluate import Evaluation
from cellseg3d.scoring.report import summaries

VOXELS = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
    "dice_slice_median": "by slice",
}
SURFACES = {
    "hausdorff_um": "HD um",
    "hd95_um": "HD95 um",
    "assd_um": "ASSD um",
    "masd_um": "MASD um",
    "nsd": "NSD",
}
PROBABILITIES = {
    "auc": "AUC",
    "threshold": "threshold",
    "dice_at_threshold": "Dice there",
    "ece": "ECE",
    "brier": "Brier",
    "nll": "NLL",
}
OBJECTS = {
    "object_precision": "precision",
    "object_recall": "recall",
    "object_f1": "F1",
    "ap_mean": "AP .5-.95",
    "pq": "PQ",
}
MISTAKES = {
    "n_true": "true",
    "n_predicted": "found",
    "splits": "splits",
    "merges": "merges",
    "misses": "misses",
    "vi": "VI bit",
    "adapted_rand_error": "ARE",
}
Scores = Mapping[str, Mapping[str, Any]]


def score_tables(evaluation: Evaluation) -> Iterator[Table]:
    """Yield the tables of an evaluation; a table without numbers is left out."""
    classes = [scored.classes for scored in evaluation.scored]
    objects = [scored.objects for scored in evaluation.scored]
    means = summaries(evaluation)
    yield _table("Voxels", VOXELS, evaluation, classes, means)
    if any("hd95_um" in scores for table in classes for scores in table.values()):
        yield _table("Surfaces", SURFACES, evaluation, classes, means)
    if any("auc" in scores for table in classes for scores in table.values()):
        title = "Probabilities (the threshold gives the best Dice on these volumes)"
        yield _table(title, PROBABILITIES, evaluation, classes, means)
    if any(objects):
        means = summaries(evaluation, objects=True)
        title = "Objects, matched where their IoU is above 0.5"
        yield _table(title, OBJECTS, evaluation, objects, means)
        yield _table("Objects and mistakes", MISTAKES, evaluation, objects, means)


def caption(evaluation: Evaluation) -> str:
    """Return the lines below the tables: accuracies, and notes on the means."""
    lines = [
        f"{pair.name}: accuracy over all classes {number(scored.accuracy)} "
        f"({scored.annotated_voxels} annotated voxels)"
        for pair, scored in zip(evaluation.pairs, evaluation.scored, strict=True)
    ]
    if len(evaluation.pairs) > 1:
        found = summaries(evaluation).values()
        notes = [summary.note for each in found for summary in each.values()]
        note = next((note for note in notes if note), "")
        lines.append("Below each mean stands its 95 % bootstrap interval over volumes.")
        lines += [f"{note}."] if note else []
    return "\n".join(lines)


def number(value: Any) -> str:  # noqa: ANN401 - any score
    """Return a score with four decimals, or a dash if it is undefined."""
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4f}"


def _table(
    title: str,
    columns: Mapping[str, str],
    evaluation: Evaluation,
    tables: Sequence[Scores],
    means: Mapping[str, Mapping[str, Summary]],
) -> Table:
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("volume", overflow="fold")
    table.add_column("class", overflow="fold")
    for heading in columns.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for pair, classes in zip(evaluation.pairs, tables, strict=True):
        for name, scores in classes.items():
            cells = [number(scores.get(key, math.nan)) for key in columns]
            table.add_row(pair.name, name, *cells)
    if len(evaluation.pairs) > 1:
        table.add_section()
        for name, found in means.items():
            n = max((found[key].n for key in columns if key in found), default=0)
            cells = [_mean(found.get(key)) for key in columns]
            table.add_row(f"mean, n={n}", name, *cells)
        for name, found in means.items():
            cells = [number(found[k].median) if k in found else "-" for k in columns]
            table.add_row("median", name, *cells)
    return table


def _mean(summary: Summary | None) -> str:
    """Return a mean, its interval, and the number of volumes without a value."""
    if summary is None:
        return "-"
    lines = [number(summary.mean)]
    if not math.isnan(summary.low):
        lines.append(f"{_short(summary.low)}-{_short(summary.high)}")
    if summary.n_undefined:
        lines.append(f"{summary.n_undefined} undef.")
    return "\n".join(lines)


def _short(value: float) -> str:
    """Return a number with three decimals and without a leading 0."""
    return f"{value:.3f}".removeprefix("0")

"""The tables that ``cellseg3d evaluate`` shows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from cellseg3d.data.score_report import summaries
from cellseg3d.data.scoring import Evaluation
from cellseg3d.metrics.statistics import Summary

VOXEL_COLUMNS = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
}
SURFACE_COLUMNS = {
    "hausdorff_um": "HD (um)",
    "hd95_um": "HD95 (um)",
    "assd_um": "ASSD (um)",
    "nsd": "NSD",
}
OBJECT_COLUMNS = {
    "n_true": "true",
    "n_predicted": "found",
    "object_precision": "precision",
    "object_recall": "recall",
    "object_f1": "F1",
    "ap_mean": "AP .5-.95",
    "pq": "PQ",
    "splits": "splits",
    "merges": "merges",
    "misses": "misses",
    "vi": "VI (bit)",
    "adapted_rand_error": "ARE",
}


def voxel_table(evaluation: Evaluation) -> Table:
    """Return the voxel scores of each volume and class, and their means."""
    columns = dict(VOXEL_COLUMNS)
    tables = [scored.classes for scored in evaluation.scored]
    if any("hd95_um" in scores for table in tables for scores in table.values()):
        columns |= SURFACE_COLUMNS
    return _table("Voxels", columns, evaluation, tables, summaries(evaluation))


def object_table(evaluation: Evaluation) -> Table:
    """Return the object scores of each volume and class, and their means."""
    means = summaries(evaluation, objects=True)
    tables = [scored.objects for scored in evaluation.scored]
    return _table("Objects (IoU > 0.5)", OBJECT_COLUMNS, evaluation, tables, means)


def number(value: Any) -> str:  # noqa: ANN401 - any score
    """Return a score as people read it; a dash for one that is undefined."""
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4f}"


def _table(
    title: str,
    columns: Mapping[str, str],
    evaluation: Evaluation,
    tables: Sequence[Mapping[str, Mapping[str, Any]]],
    means: Mapping[str, Mapping[str, Summary]],
) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("volume", overflow="fold")
    table.add_column("class", overflow="fold")
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for pair, classes in zip(evaluation.pairs, tables, strict=True):
        for name, scores in classes.items():
            cells = [number(scores.get(key, math.nan)) for key in columns]
            table.add_row(pair.name, name, *cells)
    if len(evaluation.pairs) > 1:
        table.add_section()
        for name, found in means.items():
            cells = [_mean(found.get(key)) for key in columns]
            n = max((each.n for each in found.values()), default=0)
            table.add_row(f"mean, n = {n}", name, *cells)
        table.caption = _caption(means)
    return table


def _mean(summary: Summary | None) -> str:
    """Return a mean, its interval, and how many volumes it had to leave out."""
    if summary is None:
        return "-"
    text = number(summary.mean)
    if not math.isnan(summary.low):
        text += f"\n{summary.low:.3f}-{summary.high:.3f}"
    return text + f"\n{summary.n_undefined} undefined" * bool(summary.n_undefined)


def _caption(means: Mapping[str, Mapping[str, Summary]]) -> str:
    notes = dict.fromkeys(
        summary.note for found in means.values() for summary in found.values()
    )
    first = next((note for note in notes if note), "")
    return "Below a mean: its 95 % bootstrap interval over volumes. " + first

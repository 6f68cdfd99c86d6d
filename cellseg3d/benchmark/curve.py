"""The validation curve of a training, and whether the training had converged."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cellseg3d.core.atomic import write_text

# A training keeps its weights at this many equal shares of its time.
POINTS = 8
SNAPSHOTS = "snapshots.json"
CURVE = "curve"
# The comparison asks for a lead of this size. A training whose last half gained more
# could gain the lead by going on.
MOST_RISE = 0.03
# With a lower Dice the network still calls almost everything background; and with less
# than half of what another method reaches, it still misses whole classes. A rate that
# falls to nothing flattens the curve of such a network too.
BEGUN = 0.1
RULE = (
    "A straight line is fitted to the validation Dice (mean over classes) over the "
    "last half of the training. A method is still rising if the line gains more than "
    f"{MOST_RISE} over this half, has not begun if its last point is below {BEGUN} "
    "or below half of what the best method reaches there, and has converged otherwise"
)
Trend = Literal["converged", "rising", "not begun", "unknown"]


@dataclass(frozen=True)
class Snapshot:
    """The weights of a training at one moment.

    Parameters
    ----------
    weights : Path
        The file or folder of the weights.
    share : float
        Share of the training time that was spent.
    steps : int
        Number of optimiser steps before it.
    spent_s : float
        Training time before it, by the clock of the study.
    """

    weights: Path
    share: float
    steps: int
    spent_s: float


def next_share(written: int) -> float:
    """Return the share of the training at which the next weights are kept."""
    return (written + 1) / POINTS


class Keeper:
    """Keep the weights of a training loop at equal shares of its time.

    The time that keeping takes is not counted.

    Parameters
    ----------
    folder : Path
        The folder for the weights and their list.
    budget_s : float
        Length of the training in seconds.
    clock : callable
        Function that returns seconds.
    save : callable
        Function that writes the present weights into a file.
    """

    def __init__(
        self,
        folder: Path,
        budget_s: float,
        clock: Callable[[], float],
        save: Callable[[Path], None],
    ) -> None:
        self.folder, self.budget_s, self.clock, self.save = (
            folder,
            budget_s,
            clock,
            save,
        )
        self.rows: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._begun_s = clock()

    def step(self, steps: int) -> bool:
        """Keep the weights if it is time; return whether the training goes on."""
        now = self.clock()
        spent_s = now - self._begun_s
        share = min(1.0, spent_s / self.budget_s)
        early = len(self.rows) < POINTS - 1
        if share == 1 or (early and share >= next_share(len(self.rows))):
            name = f"{len(self.rows)}.pt"
            self.save(self.folder / name)
            row = {"weights": name, "share": share, "steps": steps, "spent_s": spent_s}
            self.rows.append(row)
            write_snapshots(self.rows, self.folder)
            self._begun_s += self.clock() - now
        return share < 1


def write_snapshots(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write the list of a training's snapshots, whose files lie in the same folder."""
    write_text(folder / SNAPSHOTS, json.dumps(list(rows), indent=1) + "\n")


def read_snapshots(folder: Path) -> list[Snapshot]:
    """Return the snapshots that a training has listed; none if it listed none."""
    path = folder / SNAPSHOTS
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return [
        Snapshot(folder / row["weights"], row["share"], row["steps"], row["spent_s"])
        for row in rows
    ]


def curve_folders(job: Path) -> list[Path]:
    """Return the folders of the labels of each snapshot of a job, in their order."""
    return sorted((job / CURVE).glob("*"), key=lambda place: int(place.name))


def rise_of(curve: Sequence[Mapping[str, Any]]) -> float:
    """Return the Dice that the line through the last half of a curve gains there.

    Parameters
    ----------
    curve : sequence of mapping
        Points with ``share``, in (0, 1], and ``mean_dice``, in [0, 1] or None.

    Returns
    -------
    float
        The gain over half of the training; NaN with fewer than three points there.

    Examples
    --------
    >>> points = [{"share": s / 8, "mean_dice": 0.1 * s} for s in range(1, 9)]
    >>> round(rise_of(points), 3)
    0.4
    """
    late = [
        (float(point["share"]), float(point["mean_dice"]))
        for point in curve
        if point["share"] >= 0.5 and point["mean_dice"] is not None
    ]
    if len(late) < 3:
        return math.nan
    shares, dice = np.array(late).T
    return 0.5 * float(np.polyfit(shares, dice, 1)[0])


def last_of(curve: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean Dice of a curve's last point; 0 if there is none."""
    return float(curve[-1]["mean_dice"] or 0.0) if curve else 0.0


def trend_of(curve: Sequence[Mapping[str, Any]], best: float = 0.0) -> Trend:
    """Return whether a training had converged, by `RULE`.

    Parameters
    ----------
    curve : sequence of mapping
        As for `rise_of`.
    best : float
        The highest last point of all methods with the same data and budget.

    Examples
    --------
    >>> trend_of([{"share": s / 8, "mean_dice": 0.8} for s in range(1, 9)])
    'converged'
    """
    rise = rise_of(curve)
    if math.isnan(rise):
        return "unknown"
    if last_of(curve) < max(BEGUN, best / 2):
        return "not begun"
    return "rising" if rise > MOST_RISE else "converged"

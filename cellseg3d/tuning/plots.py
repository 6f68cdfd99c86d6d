"""Draw a search: scores over the trials, and against each searched value."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.figure import empty_figure

_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "#999999"


def draw_search(study: Mapping[str, Any], path: Path) -> None:
    """Draw one study: the best score so far, and one panel per searched key.

    Pruned trials are grey, at the score of their last validation.

    Parameters
    ----------
    study : mapping
        A study as `search.tune` returns it.
    path : Path
        Path of the PNG file.

    Raises
    ------
    EnvironmentFault
        If matplotlib is missing.
    """
    trials = [(row, found) for row in study["trials"] if (found := _score(row))]
    keys = sorted({key for row, _ in trials for key in row["settings"]})
    figure = empty_figure(4.0 * (1 + len(keys)), 3.6, "tune")
    panels = figure.subplots(1, 1 + len(keys), squeeze=False, sharey=True)[0]
    numbers = [row["trial"] for row, _ in trials]
    _points(panels[0], numbers, trials)
    done = [(row["trial"], found[0]) for row, found in trials if not found[1]]
    best = [max(score for _, score in done[: place + 1]) for place in range(len(done))]
    panels[0].step([n for n, _ in done], best, where="post", color=_RED)
    panels[0].set(xlabel="trial", ylabel="mean Dice on validation volumes")
    for panel, key in zip(panels[1:], keys, strict=True):
        _against(panel, key, trials)
    figure.suptitle(f"search {study['name']}: best in red, pruned in grey")
    atomic_write(path, lambda new: figure.savefig(new, dpi=110, format="png"))


def _against(
    panel: Any,  # noqa: ANN401 - matplotlib has no types here
    key: str,
    trials: Sequence[tuple[Mapping[str, Any], tuple[float, bool]]],
) -> None:
    values = [row["settings"].get(key) for row, _ in trials]
    numeric = all(isinstance(value, int | float) for value in values)
    if numeric and min(values) > 0 and max(values) > 20 * min(values):
        panel.set_xscale("log")
    _points(panel, values if numeric else [str(value) for value in values], trials)
    panel.set(xlabel=key)


def _points(
    panel: Any,  # noqa: ANN401 - matplotlib has no types here
    places: Sequence[Any],
    trials: Sequence[tuple[Mapping[str, Any], tuple[float, bool]]],
) -> None:
    colours = [_GREY if pruned else _BLUE for _, (_, pruned) in trials]
    panel.scatter(places, [score for _, (score, _) in trials], c=colours, s=18)
    panel.grid(visible=True, alpha=0.3)


def _score(row: Mapping[str, Any]) -> tuple[float, bool] | None:
    """Return a trial's score and whether it was pruned; None for a failed trial."""
    if row["score"] is not None:
        return float(row["score"]), False
    if row["state"] == "pruned" and row["validations"]:
        return float(row["validations"][-1]), True
    return None

"""Read a run folder: its record, its history and its network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import FormatError, InputError

RECORD = "run.json"


@dataclass(frozen=True)
class RunFolder:
    """A run's ``run.json`` and its bundle's metadata; either may be empty."""

    path: Path
    record: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row per epoch or validation, with iteration, loss, score and more."""
        return list(self.record.get("history", []))

    @property
    def cost(self) -> Mapping[str, Any]:
        """Wall and CPU seconds and peak memory in GiB."""
        cost: Mapping[str, Any] = self.record.get("cost", {})
        return cost

    @property
    def datalist(self) -> str | None:
        """The datalist that the run was trained on, if the file still exists."""
        place = self.record.get("data", {}).get("datalist")
        return str(place) if place and Path(place).exists() else None

    def curve(self, key: str) -> list[tuple[float, float]]:
        """Return (iteration, value) for each row that has a number under `key`."""
        return [
            (float(row["iteration"]), float(row[key]))
            for row in self.history
            if isinstance(row.get(key), int | float) and "iteration" in row
        ]

    def best_scores(self) -> dict[str, dict[str, float | None]]:
        """Return {volume: {class: Dice}} of the best validation; empty without one."""
        rows = [row for row in self.history if row.get("score") is not None]
        if not rows:
            return {}
        best: dict[str, Any] = max(rows, key=lambda row: float(row["score"]))
        scores: dict[str, Any] = best.get("scores", {})
        return next((t for t in (scores, *scores.values()) if _is_table(t)), {})


def read_run(folder: Path) -> RunFolder:
    """Return the record of a run folder.

    Raises
    ------
    InputError
        If the folder holds no ``run.json``.
    FormatError
        If a file in it cannot be read as JSON.
    """
    record = folder / RECORD
    if not record.is_file():
        message = (
            f"{folder}: no {RECORD} in it; give the folder that `cellseg3d train "
            "--out` wrote, or only --prediction, --truth and --image"
        )
        raise InputError(message)
    metadata = folder / "configs" / "metadata.json"
    known = read_json(metadata) if metadata.is_file() else {}
    return RunFolder(folder, read_json(record), known)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise FormatError(f"{path}: expected a JSON object")
    return values


def _is_table(values: Mapping[str, Any]) -> bool:
    """Return whether values have the form {volume: {class: number}}."""
    rows = [row for row in values.values() if isinstance(row, Mapping)]
    return bool(rows) and all(
        value is None or isinstance(value, int | float)
        for row in rows
        for value in row.values()
    )

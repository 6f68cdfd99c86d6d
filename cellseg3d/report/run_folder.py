"""Read a run folder: its record, its history and its network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import ConfigError, FormatError, InputError
from cellseg3d.core.mappings import read_mapping

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
            "--out` wrote, or only `prediction`, `truth` and `image`"
        )
        raise InputError(message)
    metadata = folder / "configs" / "metadata.json"
    known = read_json(metadata) if metadata.is_file() else {}
    return RunFolder(folder, _checked(read_json(record), record), known)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file.

    Raises
    ------
    FormatError
        If it cannot be read as one.
    """
    try:
        return read_mapping(path)
    except ConfigError as error:
        raise FormatError(str(error)) from error


def _checked(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """Refuse a record whose parts are not of the types that they are written in."""
    kinds = {"history": list, "cost": dict, "data": dict, "warnings": list}
    for key, kind in kinds.items():
        if not isinstance(record.get(key, kind()), kind):
            raise _wrong(path, key, record[key])
    for row in record.get("history", []):
        if not isinstance(row, dict):
            raise _wrong(path, "history", row)
        for key in ("iteration", "score"):
            if not _is_number(row.get(key)):
                raise _wrong(path, f"history: {key}", row[key])
        if not isinstance(row.get("scores", {}), dict):
            raise _wrong(path, "history: scores", row["scores"])
    return record


def _is_number(value: object) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool)
    )


def _wrong(path: Path, key: str, value: object) -> FormatError:
    return FormatError(
        f"{path}: holds {value!r:.80} as {key}, which no training writes; restore the "
        "file, or report the predictions without the run"
    )


def _is_table(values: object) -> bool:
    """Return whether values have the form {volume: {class: number}}."""
    if not isinstance(values, Mapping):
        return False
    rows = [row for row in values.values() if isinstance(row, Mapping)]
    return bool(rows) and all(
        value is None or isinstance(value, int | float)
        for row in rows
        for value in row.values()
    )

"""The record of one job as JSON; tables and pictures are made from records alone."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from cellseg3d.benchmark.study import Job, Study
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.form import ANY, check_form
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.words import refuse_unknown
from cellseg3d.scoring.report import plain_numbers

State = Literal["done", "failed", "skipped"]
RECORDS = "records"
FORMAT = 1
_NUMBER = (float, None, "inf")
_COST = {"peak_gib?": float, ANY: float}
_FORM = {
    **dict.fromkeys(("key", "study", "dataset", "target", "method"), str),
    "fold": int,
    "seed": int,
    "recipe": {"minutes": float, "clock?": str, "method?": {"of?": [str]}},
    "state": ("done", "failed", "skipped"),
    "reason?": str,
    "volumes?": {
        ANY: {"unit": str, "scores": {ANY: _NUMBER}, "classes?": {ANY: _NUMBER}}
    },
    "curve?": [
        {
            **dict.fromkeys(("share", "spent_s"), float),
            **dict.fromkeys(("dice", "mean_dice"), (float, None)),
            "steps": int,
        }
    ],
    "training?": _COST,
    "prediction?": _COST,
    "parameters?": int,
    "warnings?": [str],
    "versions?": {ANY: str},
    "machine?": dict,
    "commit?": (str, None),
    "format?": int,
}


@dataclass(frozen=True)
class Record:
    """The result of one method on one fold of a data set with one seed.

    Parameters
    ----------
    key, study, dataset, target, method : str
        What the record is about; `target` is the class that is scored.
    fold, seed : int
    recipe : dict
        Everything that decides the result: settings, cases held out, budget.
    state : {"done", "failed", "skipped"}
    reason : str
        Why the job failed or was skipped, in one line.
    volumes : dict
        For each test volume its ``unit`` (its specimen, or itself) and ``scores``:
        ``dice``, ``jaccard``, ``precision``, ``recall``, ``mean_dice`` (over all
        classes), ``object_f1``, ``hd95_um``, ``assd_um``. None means undefined,
        ``"inf"`` that the class was missed. ``classes`` holds the Dice of each class.
    curve : list of dict
        Points of the validation curve, from weights kept during the training:
        ``share`` of the budget, ``steps``, ``spent_s``, ``dice`` and ``mean_dice``.
    training, prediction : dict
        ``elapsed_s``, ``cpu_s`` and ``peak_gib`` of each; for the training also its
        ``steps``, and ``voxels``, the labelled voxels that all steps saw together; for
        the prediction also ``volumes_s``, the time without loading the program.
    parameters : int
        Number of parameters of all networks that the method uses.
    warnings : list of str
        Warnings that every table repeats.
    versions, machine : dict
    commit : str or None
    """

    key: str
    study: str
    dataset: str
    target: str
    method: str
    fold: int
    seed: int
    recipe: dict[str, Any]
    state: State
    reason: str = ""
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    training: dict[str, float] = field(default_factory=dict)
    prediction: dict[str, float] = field(default_factory=dict)
    parameters: int = 0
    warnings: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    commit: str | None = None
    format: int = FORMAT

    @property
    def minutes(self) -> float:
        """The time budget of the training, in minutes."""
        return float(self.recipe["minutes"])

    def score(self, volume: str, name: str) -> float:
        """Return a score of a volume; NaN where it is undefined or was not measured."""
        return number(self.volumes[volume]["scores"].get(name))


def recipe_of(job: Job, study: Study) -> dict[str, Any]:
    """Return everything that decides the result of a job, as plain JSON values."""
    values = {
        "method": job.method.recipe(),
        "uses": [study.method(name).recipe() for name in job.method.of],
        "data": job.dataset.recipe(job.fold),
        "minutes": job.minutes,
        "clock": study.clock,
    }
    plain: dict[str, Any] = json.loads(json.dumps(plain_numbers(values)))
    return plain


def read_record(path: Path) -> Record:
    """Read a record.

    Raises
    ------
    ConfigError
        If the file is no record.
    """
    try:
        values = read_mapping(path)
        refuse_unknown(values, [each.name for each in fields(Record)], str(path))
        check_form(values, _FORM, str(path))
    except ConfigError as error:
        message = f"{path}: is no record of a benchmark ({error}); take it away"
        raise ConfigError(message) from error
    return Record(**values)


def read_records(folder: Path) -> list[Record]:
    """Return every record in a benchmark's folder, sorted by name.

    Raises
    ------
    ConfigError
        If there is no record, or one cannot be read.
    """
    paths = sorted((folder / RECORDS).glob("*.json"))
    if not paths:
        message = f"{folder / RECORDS}: holds no record; run the benchmark first"
        raise ConfigError(message)
    return [read_record(path) for path in paths]


def write_record(record: Record, folder: Path) -> Path:
    """Write a record atomically into a benchmark's folder and return its path."""
    path = folder / RECORDS / f"{record.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(asdict(record), path)
    return path


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write plain JSON atomically; numbers that are undefined become null."""
    text = json.dumps(plain_numbers(values), indent=1, allow_nan=False) + "\n"
    write_text(path, text)


def number(value: object) -> float:
    """Return the number that a JSON value means: None is NaN, ``"inf"`` infinite."""
    return math.nan if value is None else float(str(value))

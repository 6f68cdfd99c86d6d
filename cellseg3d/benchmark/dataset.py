"""A data set of a study: its cases, the cases held out, and the class to score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.words import refuse_unknown, suggestion
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist, write_datalist
from cellseg3d.datasets.simulated import SimulationOptions, ensure_dataset
from cellseg3d.datasets.splits import training_fold

DATASET_KEYS = (
    "name",
    "datalist",
    "simulate",
    "target",
    "objects",
    "tests",
    "validate",
)
SIMULATE_KEYS = ("n", "shape", "seed", "voxel_um", "mount")


@dataclass(frozen=True)
class Dataset:
    """One data set of a study; its files are not opened yet.

    Parameters
    ----------
    name : str
    target : str
        The class whose scores the tables show.
    tests : tuple of tuple of str
        One entry per fold: the names of the cases (or groups) that are held out.
    validate : tuple of tuple of str
        One entry per fold: the names of the cases (or groups) that the curve of each
        training is measured on. They train no method, and no method is chosen by them.
        Empty for no curves.
    datalist : Path or None
        The datalist of all cases, for training and for testing.
    simulate : mapping
        Settings of a simulation, used when there is no datalist: number of cells
        (``n``), ``shape`` (one edge), ``seed``, ``voxel_um`` and ``mount``.
    objects : bool
        Whether objects are scored too.
    """

    name: str
    target: str
    tests: tuple[tuple[str, ...], ...]
    datalist: Path | None = None
    simulate: Mapping[str, Any] = field(default_factory=dict)
    objects: bool = True
    validate: tuple[tuple[str, ...], ...] = ()

    @property
    def folds(self) -> int:
        """The number of folds."""
        return len(self.tests)

    def recipe(self, fold: int) -> dict[str, Any]:
        """Return the settings that decide the results of a fold, as plain values."""
        return {
            "target": self.target,
            "held_out": list(self.tests[fold]),
            "validate": list(self.validate[fold]) if self.validate else [],
            "simulate": dict(self.simulate),
            "objects": self.objects,
        }

    def open(self, folder: Path) -> Datalist:
        """Return the cases; simulate them into `folder` if they are not there yet.

        Raises
        ------
        InputError
            If the datalist or one of its files is missing.
        ConfigError
            If the target is no class, or a held-out name is no case.
        """
        place = folder / self.name if self.datalist is None else self.datalist
        if self.datalist is None:
            options = SimulationOptions(
                float(self.simulate.get("voxel_um", 0.05)),
                self.simulate.get("mount", "capillary"),
            )
            ensure_dataset(
                place,
                int(self.simulate["n"]),
                int(self.simulate["shape"]),
                int(self.simulate.get("seed", 0)),
                options,
            )
        elif not place.exists():
            message = (
                f"{place}: does not exist; data set {self.name!r} needs it (the "
                "head of the study says how to write it)"
            )
            raise InputError(message)
        datalist = load_datalist(place.resolve())
        if self.target not in datalist.classes:
            message = f"{datalist.where}: has no class {self.target!r}"
            raise ConfigError(message + suggestion(self.target, datalist.classes))
        for names in (*self.tests, *self.validate):
            datalist.select(names)
        return datalist


@dataclass(frozen=True)
class WrittenFold:
    """A fold on disk.

    Parameters
    ----------
    path : Path
        Its datalist: cases that are held out or that the curve is measured on are
        marked ``"test"``, all others train.
    datalist : Datalist
        The same datalist in memory.
    warnings : tuple of str
        Warnings that every table repeats, such as a specimen in training and test.
    curve : frozenset of str
        Names of the cases that the curve is measured on.
    """

    path: Path
    datalist: Datalist
    warnings: tuple[str, ...]
    curve: frozenset[str] = frozenset()

    @property
    def tests(self) -> tuple[Case, ...]:
        """The labelled cases that are held out."""
        kept = _labelled(self.datalist, test=True)
        return tuple(case for case in kept if case.name not in self.curve)

    @property
    def validation(self) -> tuple[Case, ...]:
        """The labelled cases that the curve of a training is measured on."""
        kept = _labelled(self.datalist, test=True)
        return tuple(case for case in kept if case.name in self.curve)

    @property
    def training(self) -> tuple[Case, ...]:
        """The labelled cases to train on."""
        return _labelled(self.datalist, test=False)

    def unit_of(self, case: Case) -> str:
        """Return the unit of statistics that a case counts as: its specimen, or itself.

        If a specimen is in training and test, each part of it counts as a unit of its
        own, and a warning says so.
        """
        shared = any(case.group == each.group for each in self.training)
        return case.name if shared else case.group


def write_fold(
    dataset: Dataset, datalist: Datalist, fold: int, folder: Path
) -> WrittenFold:
    """Write the datalist of a fold; refuse it if training and test share a specimen.

    Raises
    ------
    ConfigError
        If nothing is left to train on, nothing is held out that has a label, or a
        specimen is on both sides without ``allow_shared_groups``.
    """
    tests = {case.name for case in datalist.select(dataset.tests[fold])}
    names = dataset.validate[fold] if dataset.validate else ()
    curve = frozenset(case.name for case in datalist.select(names)) - tests
    cases = tuple(
        replace(case, split="test" if case.name in tests | curve else None)
        for case in datalist.cases
    )
    sided = replace(datalist, cases=cases)
    scored = replace(sided, cases=tuple(c for c in cases if c.name not in curve))
    checked = training_fold(scored, None, validation="none")
    if not any(case.label for case in checked.test if case.name in tests):
        message = f"{datalist.where}: fold {fold} holds out no case with a label"
        raise ConfigError(message)
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / f"{dataset.name}_fold{fold}.json").resolve()
    write_datalist(sided, path)
    notes = tuple(note for note in checked.warnings if "no validation" not in note)
    return WrittenFold(path, sided, notes, curve)


def parse_dataset(entry: Mapping[str, Any], path: Path) -> Dataset:
    """Return the data set that an entry of a study describes.

    Raises
    ------
    ConfigError
        If a key is unknown or missing.
    """
    where = f"{path}: data set {entry.get('name')!r}"
    refuse_unknown(entry, DATASET_KEYS, where)
    missing = [key for key in ("name", "target", "tests") if not entry.get(key)]
    if missing:
        raise ConfigError(f"{where}: {missing[0]!r} is missing or empty")
    if ("datalist" in entry) == ("simulate" in entry):
        raise ConfigError(f"{where}: give either 'datalist' or 'simulate'")
    simulate = dict(entry.get("simulate", {}))
    refuse_unknown(simulate, SIMULATE_KEYS, where)
    if "simulate" in entry and not {"n", "shape"} <= set(simulate):
        raise ConfigError(f"{where}: simulate needs 'n' and 'shape'")
    tests, validate = _folds(entry["tests"]), _folds(entry.get("validate", ()))
    if validate and len(validate) != len(tests):
        message = f"{where}: validate has {len(validate)} entries, tests {len(tests)}"
        raise ConfigError(f"{message}; give one for each fold")
    given = entry.get("datalist")
    return Dataset(
        name=str(entry["name"]),
        target=str(entry["target"]),
        tests=tests,
        datalist=None if given is None else path.parent / str(given),
        simulate=simulate,
        objects=bool(entry.get("objects", True)),
        validate=validate,
    )


def _folds(entry: Sequence[str | Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (names,) if isinstance(names, str) else tuple(map(str, names))
        for names in entry
    )


def _labelled(datalist: Datalist, *, test: bool) -> tuple[Case, ...]:
    return tuple(
        case
        for case in datalist.cases
        if case.label is not None and (case.split == "test") == test
    )

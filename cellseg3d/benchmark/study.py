"""A study: which methods, on which data, over which folds and seeds, at what budget."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from cellseg3d.core.errors import ConfigError
from cellseg3d.data.cases import Datalist, suggestion
from cellseg3d.data.datalist import load_datalist

Kind = Literal["train", "axes", "ensemble", "peer"]
_STUDY_KEYS = ("name", "question", "datasets", "methods", "seeds", "minutes")
_DATASET_KEYS = ("name", "datalist", "target", "objects", "tests")
_METHOD_KEYS = ("name", "bundle", "set", "axes", "of", "peer", "reference", "predict")


@dataclass(frozen=True)
class Dataset:
    """One data set of a study.

    Parameters
    ----------
    name : str
    datalist : Datalist
        All cases, those to train on and those to test on.
    target : str
        The class whose Dice decides.
    objects : bool
        Whether objects are scored too (connected components of the target class).
    tests : tuple of tuple of str
        One fold each: the names of the cases (or groups) held out.
    """

    name: str
    datalist: Datalist
    target: str
    objects: bool
    tests: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Method:
    """One way to get labels.

    Parameters
    ----------
    name : str
        What tables call it.
    kind : {"train", "axes", "ensemble", "peer"}
        Train a bundle; predict with another method's network along several axes; fuse
        the networks of several methods; or train and predict with another tool.
    bundle : str
        Bundle to train (``"train"``).
    settings : mapping
        Config keys set for the training (``"train"``).
    of : tuple of str
        Methods whose trained networks are used (``"axes"``, ``"ensemble"``).
    axes : str
        Axes to sweep and fuse, such as ``"zyx"`` (``"axes"``).
    peer : str
        Which tool, and which of its configurations, such as ``"monai-2d"``.
    reference : bool
        The method that the others are compared with.
    predict : tuple of str
        Further words for ``cellseg3d predict``.
    """

    name: str
    kind: Kind
    bundle: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    of: tuple[str, ...] = ()
    axes: str = ""
    peer: str = ""
    reference: bool = False
    predict: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One cell of the matrix: a method on one fold of a data set with one seed."""

    dataset: Dataset
    method: Method
    fold: int
    seed: int

    @property
    def key(self) -> str:
        """A file name that no other job of the study has."""
        method = "".join(c if c.isalnum() else "-" for c in self.method.name)
        return f"{self.dataset.name}_{method}_fold{self.fold}_seed{self.seed}"


@dataclass(frozen=True)
class Study:
    """What `cellseg3d benchmark` runs.

    Parameters
    ----------
    name, question : str
    datasets : tuple of Dataset
    methods : tuple of Method
        Those that train come before those that use what they trained.
    seeds : tuple of int
    minutes : float
        Training time of every method on this machine: the equal budget.
    """

    name: str
    question: str
    datasets: tuple[Dataset, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    minutes: float

    def jobs(self) -> Iterator[Job]:
        """Yield every cell of the matrix; what trains before what uses it."""
        for dataset in self.datasets:
            for fold in range(len(dataset.tests)):
                for seed in self.seeds:
                    for method in self.methods:
                        yield Job(dataset, method, fold, seed)


def load_study(path: Path) -> Study:
    """Read a study from YAML; paths in it are relative to the file.

    Raises
    ------
    ConfigError
        If a key is unknown or missing, or a method uses one that does not precede it.
    InputError
        If a datalist or one of its files is missing.
    """
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: holds no mapping; expected {', '.join(_STUDY_KEYS)}"
        )
    _refuse_unknown(values, _STUDY_KEYS, str(path))
    missing = [key for key in _STUDY_KEYS if key not in values]
    if missing:
        raise ConfigError(f"{path}: {missing[0]!r} is missing")
    methods = tuple(_method(entry, str(path)) for entry in values["methods"])
    _check_order(methods, str(path))
    return Study(
        name=str(values["name"]),
        question=str(values["question"]),
        datasets=tuple(_dataset(entry, path) for entry in values["datasets"]),
        methods=methods,
        seeds=tuple(int(seed) for seed in values["seeds"]),
        minutes=float(values["minutes"]),
    )


def _dataset(entry: Mapping[str, Any], path: Path) -> Dataset:
    _refuse_unknown(entry, _DATASET_KEYS, f"{path}: dataset")
    datalist = load_datalist(path.parent / str(entry["datalist"]))
    target = str(entry.get("target", datalist.classes[1]))
    if target not in datalist.classes:
        message = f"{path}: target {target!r} is no class of {datalist.where}"
        raise ConfigError(message + suggestion(target, datalist.classes))
    tests = entry.get("tests") or [[case.name] for case in datalist.cases]
    for names in tests:
        datalist.select(names)
    return Dataset(
        name=str(entry.get("name", datalist.name)),
        datalist=datalist,
        target=target,
        objects=bool(entry.get("objects", True)),
        tests=tuple(tuple(names) for names in tests),
    )


def _method(entry: Mapping[str, Any], where: str) -> Method:
    _refuse_unknown(entry, _METHOD_KEYS, f"{where}: method")
    return Method(
        name=str(entry["name"]),
        kind=_kind(entry, where),
        bundle=str(entry.get("bundle", "")),
        settings=dict(entry.get("set", {})),
        of=_names(entry.get("of", ())),
        axes=str(entry.get("axes", "")),
        peer=str(entry.get("peer", "")),
        reference=bool(entry.get("reference", False)),
        predict=_names(entry.get("predict", ())),
    )


def _kind(entry: Mapping[str, Any], where: str) -> Kind:
    if "peer" in entry:
        return "peer"
    if "bundle" in entry:
        return "train"
    if "of" in entry:
        return "axes" if "axes" in entry else "ensemble"
    message = (
        f"{where}: method {entry.get('name')!r} trains nothing and uses nothing; "
        "give 'bundle', 'of' (with or without 'axes') or 'peer'"
    )
    raise ConfigError(message)


def _check_order(methods: Sequence[Method], where: str) -> None:
    trained: set[str] = set()
    for method in methods:
        unknown = [name for name in method.of if name not in trained]
        if unknown:
            message = (
                f"{where}: method {method.name!r} uses {unknown[0]!r}, "
                "which no method before it trains"
            )
            raise ConfigError(message + suggestion(unknown[0], sorted(trained)))
        if method.kind == "train":
            trained.add(method.name)


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _refuse_unknown(entry: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in entry:
        if key not in known:
            message = f"{where}: unknown key {key!r}"
            raise ConfigError(message + suggestion(str(key), list(known)))

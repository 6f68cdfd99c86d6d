"""A study: which methods run on which data, with which folds, seeds and budget."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

from cellseg3d.benchmark.dataset import Dataset, parse_dataset
from cellseg3d.core.clock import CLOCKS, Clock
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.form import check_form
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.words import refuse_unknown, suggestion

Kind = Literal["train", "axes", "ensemble", "peer"]
# The settings of each tool that a study may change.
PEER_SETTINGS = {
    "monai-2d": ("volumes", "crops"),
    "monai-3d": ("volumes", "crops"),
    "nnunet-2d": ("memory_gb",),
    "nnunet-3d_fullres": ("memory_gb",),
}
PEERS = tuple(PEER_SETTINGS)
NEEDED = ("name", "question", "datasets", "methods", "seeds", "minutes")
_NAMES = (str, [str])
FORM = {
    "name": str,
    "question": str,
    "datasets": [
        {
            "name?": str,
            "datalist?": str,
            "simulate?": {
                **dict.fromkeys(("n?", "shape?", "seed?"), int),
                "voxel_um?": float,
                "mount?": str,
            },
            "target?": str,
            "objects?": bool,
            "tests?": [_NAMES],
            "validate?": [_NAMES],
        }
    ],
    "methods": [
        {
            **dict.fromkeys(("name?", "bundle?", "axes?", "peer?"), str),
            **dict.fromkeys(("plan?", "reference?"), bool),
            "wave?": int,
            **dict.fromkeys(("of?", "train?", "predict?"), _NAMES),
            "set?": dict,
        }
    ],
    "seeds": [int],
    "minutes": (float, [float]),
    "clock?": str,
    "compare?": [[str]],
}
STUDY_KEYS = (*NEEDED, "clock", "compare")
METHOD_KEYS = (
    "name",
    "bundle",
    "plan",
    "set",
    "axes",
    "of",
    "peer",
    "reference",
    "wave",
    "train",
    "predict",
)


@dataclass(frozen=True)
class Method:
    """One method of a study.

    Parameters
    ----------
    name : str
        The name shown in tables.
    kind : {"train", "axes", "ensemble", "peer"}
        What the method does: train a bundle; predict with another method's network
        along several axes; fuse the networks of several methods; or train and predict
        with another tool.
    bundle : str
        Bundle to train (``"train"``).
    plan : bool
        Whether `cellseg3d plan` chooses the settings from each fold's training volumes
        (``"train"``).
    settings : mapping
        Config keys set for the training (``"train"``), which override the plan; or the
        settings of another tool (``"peer"``), one of `PEER_SETTINGS`.
    of : tuple of str
        Methods whose trained networks are used (``"axes"``, ``"ensemble"``).
    axes : str
        Axes to sweep and fuse, such as ``"zyx"``.
    peer : str
        Which tool and which of its configurations, one of `PEERS`.
    reference : bool
        Whether this is the method that the others are compared with.
    wave : int
        Methods of a lower wave run on all data sets before those of a higher one.
    train, predict : tuple of str
        Further arguments for ``cellseg3d train`` and ``cellseg3d predict``.
    """

    name: str
    kind: Kind
    bundle: str = ""
    plan: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    of: tuple[str, ...] = ()
    axes: str = ""
    peer: str = ""
    reference: bool = False
    wave: int = 0
    train: tuple[str, ...] = ()
    predict: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether the method trains; other methods use networks already trained."""
        return self.kind in ("train", "peer")

    def recipe(self) -> dict[str, Any]:
        """Return the settings that decide its results, as plain JSON values."""
        return {
            "kind": self.kind,
            "bundle": self.bundle,
            "plan": self.plan,
            "settings": dict(self.settings),
            "of": list(self.of),
            "axes": self.axes,
            "peer": self.peer,
            "train": list(self.train),
            "predict": list(self.predict),
        }


@dataclass(frozen=True)
class Job:
    """One method on one fold of a data set with one seed and one time budget."""

    dataset: Dataset
    method: Method
    fold: int
    seed: int
    minutes: float

    @property
    def key(self) -> str:
        """A file name that is unique within the study."""
        return self.key_of(self.method.name)

    def key_of(self, method: str) -> str:
        """Return the key of the same fold, seed and budget under another method."""
        name = f"{self.dataset.name}_{slug(method)}_fold{self.fold}_seed{self.seed}"
        return f"{name}_{self.minutes:g}min"


@dataclass(frozen=True)
class Budget:
    """The limits of one training and its seed.

    Parameters
    ----------
    seed : int
    minutes : float
    clock : {"wall", "cpu"}
        Whether to count real time or processor time summed over threads. Processor
        time is the fair choice on a machine that does other work as well.
    """

    seed: int
    minutes: float
    clock: Clock = "wall"


@dataclass(frozen=True)
class Study:
    """Everything that `cellseg3d benchmark` runs.

    Parameters
    ----------
    name, question : str
    datasets : tuple of Dataset
    methods : tuple of Method
        The methods; each one that trains precedes those that use its network.
    seeds : tuple of int
    minutes : tuple of float
        Training times; every method is trained once for each of them.
    clock : {"wall", "cpu"}
        How the minutes are measured; see `Budget`.
    compare : tuple of (str, str)
        Pairs of methods to compare, besides every method with the reference. They are
        named before the study runs, so no test is chosen by its result.
    """

    name: str
    question: str
    datasets: tuple[Dataset, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    minutes: tuple[float, ...]
    clock: Clock = "wall"
    compare: tuple[tuple[str, str], ...] = ()

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every method with the reference, then the pairs that the study names."""
        base = self.reference.name
        names = [method.name for method in self.methods if method.name != base]
        # A pair named in the opposite order is the same test, so it is left out.
        each = [(name, base) for name in names if (base, name) not in self.compare]
        return tuple(dict.fromkeys([*each, *self.compare]))

    @property
    def reference(self) -> Method:
        """The method that the others are compared with; by default the first one."""
        return next((m for m in self.methods if m.reference), self.methods[0])

    def budget(self, job: Job) -> Budget:
        """Return the budget of a job's training."""
        return Budget(job.seed, job.minutes, self.clock)

    def method(self, name: str) -> Method:
        """Return a method by its name."""
        return next(method for method in self.methods if method.name == name)

    def jobs(self) -> Iterator[Job]:
        """Yield every job; those that train precede those that use their networks.

        A study that is stopped early has useful tables: seeds are the outermost loop,
        then folds, budgets and waves of methods, and each wave takes the data sets in
        turn.
        """
        folds = range(max(dataset.folds for dataset in self.datasets))
        waves = sorted({method.wave for method in self.methods})
        for seed, fold, minutes, wave in product(
            self.seeds, folds, self.minutes, waves
        ):
            for dataset, method in product(self.datasets, self.methods):
                if method.wave == wave and fold < dataset.folds:
                    yield Job(dataset, method, fold, seed, minutes)


def slug(name: str) -> str:
    """Return a name made of letters, digits, dots and hyphens, for a file name."""
    return "".join(c if c.isalnum() or c == "." else "-" for c in name)


def load_study(path: Path) -> Study:
    """Read a study from YAML; paths in it are relative to the file.

    The data sets themselves are not opened.

    Raises
    ------
    ConfigError
        If a key is unknown or missing, a name occurs twice, or a method uses one
        that does not precede it.
    """
    values = read_mapping(path)
    refuse_unknown(values, STUDY_KEYS, str(path))
    missing = [key for key in NEEDED if not values.get(key)]
    if missing:
        raise ConfigError(f"{path}: {missing[0]!r} is missing or empty")
    check_form(values, FORM, str(path))
    methods = tuple(_method(entry, str(path)) for entry in values["methods"])
    datasets = tuple(parse_dataset(entry, path) for entry in values["datasets"])
    _refuse_twins([slug(method.name) for method in methods], f"{path}: method")
    _refuse_twins([dataset.name for dataset in datasets], f"{path}: data set")
    _check_order(methods, str(path))
    seeds = tuple(int(seed) for seed in values["seeds"])
    _refuse_twins([str(seed) for seed in seeds], f"{path}: seed")
    minutes = _minutes(values["minutes"], str(path))
    clock = values.get("clock", "wall")
    if clock not in CLOCKS:
        raise ConfigError(f"{path}: clock is {clock!r}; expected {' or '.join(CLOCKS)}")
    return Study(
        name=str(values["name"]),
        question=str(values["question"]),
        datasets=datasets,
        methods=methods,
        seeds=seeds,
        minutes=minutes,
        clock=clock,
        compare=_pairs(values.get("compare", ()), methods, str(path)),
    )


def _method(entry: Mapping[str, Any], where: str) -> Method:
    refuse_unknown(entry, METHOD_KEYS, f"{where}: method")
    peer = str(entry.get("peer", ""))
    if peer and peer not in PEERS:
        raise ConfigError(
            f"{where}: peer {peer!r} is unknown" + suggestion(peer, PEERS)
        )
    if peer:
        refuse_unknown(dict(entry.get("set", {})), PEER_SETTINGS[peer], f"{where}: set")
    if "name" not in entry:
        raise ConfigError(f"{where}: a method has no 'name'")
    return Method(
        name=str(entry["name"]),
        kind=_kind(entry, where),
        bundle=str(entry.get("bundle", "")),
        plan=bool(entry.get("plan", False)),
        settings=dict(entry.get("set", {})),
        of=_names(entry.get("of", ())),
        axes=str(entry.get("axes", "")),
        peer=peer,
        reference=bool(entry.get("reference", False)),
        wave=int(entry.get("wave", 0)),
        train=_names(entry.get("train", ())),
        predict=_names(entry.get("predict", ())),
    )


def _kind(entry: Mapping[str, Any], where: str) -> Kind:
    if "peer" in entry:
        return "peer"
    if "bundle" in entry:
        return "train"
    if "of" in entry:
        return "axes" if len(_names(entry["of"])) == 1 else "ensemble"
    message = (
        f"{where}: method {entry.get('name')!r} trains nothing and uses nothing; "
        "give 'bundle', 'of' (with or without 'axes') or 'peer'"
    )
    raise ConfigError(message)


def _check_order(methods: Sequence[Method], where: str) -> None:
    trained: set[str] = set()
    for method in sorted(methods, key=lambda each: each.wave):
        unknown = [name for name in method.of if name not in trained]
        if unknown:
            message = (
                f"{where}: method {method.name!r} uses {unknown[0]!r}, "
                "which no method before it trains"
            )
            raise ConfigError(message + suggestion(unknown[0], sorted(trained)))
        if method.kind == "train":
            trained.add(method.name)


def _minutes(given: float | Sequence[float], where: str) -> tuple[float, ...]:
    minutes = tuple(map(float, given if isinstance(given, list) else [given]))
    for each in minutes:
        if not (math.isfinite(each) and each > 0):
            message = f"{where}: minutes is {each}; expected a positive number"
            raise ConfigError(message)
    _refuse_twins([f"{each:g}" for each in minutes], f"{where}: minutes")
    return minutes


def _pairs(
    given: Sequence[Sequence[str]], methods: Sequence[Method], where: str
) -> tuple[tuple[str, str], ...]:
    known = [method.name for method in methods]
    pairs = []
    for pair in given:
        names = _names(pair)
        if len(names) != 2:
            raise ConfigError(f"{where}: compare holds {pair!r}; expected [A, B]")
        for name in names:
            if name not in known:
                message = f"{where}: compare names {name!r}, which is no method"
                raise ConfigError(message + suggestion(name, known))
        pairs.append((names[0], names[1]))
    return tuple(pairs)


def _refuse_twins(names: Sequence[str], what: str) -> None:
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise ConfigError(f"{what} {twins[0]!r} occurs twice; give each its own name")


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value))

"""What `configs/weights/NAME.yaml` says about the weights of one bundle."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from cellseg3d.bundle.compose import read_config
from cellseg3d.core.errors import ConfigError

# What is left out in turn: a data set, a specimen, a volume, or nothing.
LeaveOut = Literal["dataset", "specimen", "volume", "none"]
FINAL = "final"


@dataclass(frozen=True)
class Source:
    """Volumes of one data set that train or test a network.

    Parameters
    ----------
    dataset : str
        A data set of the manifest in ``$CELLSEG3D_DATA``.
    label_map : mapping of int to int, optional
        The label value in the files to the class; values that are absent become 0.
        The labels stay as they are when None.
    test : bool or list of str
        Whether these volumes test only; or the names of those that do.
    part : (str, float, float), optional
        Only this part of every volume: the axis, and where the part begins and ends as
        shares of its length.
    name : str
        What the record calls it; the data set's name when empty.
    spacing_known : bool
        Whether the manifest's voxel edges are real lengths, not proportions.
    """

    dataset: str
    label_map: Mapping[int, int] | None = None
    test: bool | tuple[str, ...] = False
    part: tuple[str, float, float] | None = None
    name: str = ""
    spacing_known: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.test, bool):
            object.__setattr__(self, "test", tuple(map(str, self.test)))
        if self.part is not None:
            object.__setattr__(self, "part", tuple(self.part))
        if not self.name:
            object.__setattr__(self, "name", self.dataset)

    def tests(self, volume: str) -> bool:
        """Whether a volume is for testing only."""
        return self.test if isinstance(self.test, bool) else volume in self.test


@dataclass(frozen=True)
class WeightsRecipe:
    """How the weights of one bundle are made and scored.

    Parameters
    ----------
    name : str
        The bundle.
    classes : tuple of str
        Names of the classes, background first.
    sources : tuple of Source
        Where the labelled volumes come from; empty for simulated tomograms.
    simulated : mapping of str to int
        How many tomograms are simulated: ``cells`` to train on, ``validation`` to
        choose the best weights by, ``test`` for each condition; empty without.
    labels : {"classes", "instances"}
        What the label files hold.
    target : str
        What is learned of them: classes, border-core or affinity.
    spacing_um : tuple of float or None
        Volumes with a spacing are brought to this one; None leaves them as they are.
    leave_out : {"dataset", "specimen", "volume", "none"}
        What each further training leaves out and is scored on.
    steps, left_out_steps : int
        Steps of the training on all volumes, and of each that leaves something out.
    settings : mapping
        Keys of the bundle's training config that differ from the bundle's own.
    members : mapping of str to str
        For a bundle that fuses others: its member to the bundle whose weights it takes.
    data_of : str
        The bundle whose data this one trains on, too; what this recipe does not say of
        them is as in that bundle's.
    label_map : mapping of int to int, optional
        What the values in the labels of simulated tomograms mean here; the simulation's
        own classes when None.
    """

    name: str
    classes: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    simulated: Mapping[str, int] = field(default_factory=dict)
    labels: Literal["classes", "instances"] = "classes"
    target: str = "classes"
    spacing_um: tuple[float, float, float] | None = None
    leave_out: LeaveOut = "none"
    steps: int = 4000
    left_out_steps: int = 1500
    settings: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    data_of: str = ""
    label_map: Mapping[int, int] | None = None


# What a recipe says of its data, and takes over from the bundle of `data_of`.
_OF_DATA = ("classes", "simulated", "labels", "target", "spacing_um", "leave_out")


def read_recipe(configs_dir: Path, name: str) -> WeightsRecipe:
    """Return how the weights of a bundle are made.

    Raises
    ------
    ConfigError
        If nothing says so, or a key is unknown.
    """
    path = configs_dir / "weights" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(recipe_names(configs_dir))
        raise ConfigError(f"{name}: has no {path}; weights are made for {known}")
    values = dict(read_config(path))
    _refuse_unknown(path, values, WeightsRecipe)
    sources = []
    for entry in values.pop("sources", []):
        _refuse_unknown(path, entry, Source)
        sources.append(Source(**entry))
    if "data_of" in values:
        other = read_recipe(configs_dir, str(values["data_of"]))
        sources = sources or list(other.sources)
        values = {key: getattr(other, key) for key in _OF_DATA} | values
    if values.get("leave_out", "none") not in get_args(LeaveOut):
        expected = ", ".join(get_args(LeaveOut))
        message = f"{path}: leave_out is {values['leave_out']!r}; expected {expected}"
        raise ConfigError(message)
    if values.get("label_map") is not None and not values.get("simulated"):
        message = f"{path}: label_map is for simulated tomograms; give it to a source"
        raise ConfigError(message)
    for key in ("classes", "spacing_um"):
        if values.get(key) is not None:
            values[key] = tuple(values[key])
    return WeightsRecipe(name=name, sources=tuple(sources), **values)


def recipe_names(configs_dir: Path) -> list[str]:
    """Return the bundles whose weights the checkout can make, by name."""
    return sorted(path.stem for path in (configs_dir / "weights").glob("*.yaml"))


def _refuse_unknown(path: Path, values: Mapping[str, Any], kind: type) -> None:
    known = [each.name for each in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        message = f"{path}: unknown key {unknown[0]!r}; expected {', '.join(known)}"
        raise ConfigError(message)

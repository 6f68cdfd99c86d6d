"""Read `configs/weights/NAME.yaml`, which says how a bundle's weights are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from cellseg3d.bundle.compose import read_config
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.words import refuse_unknown

# The unit that is left out in turn: a data set, a specimen, a volume, or none.
LeaveOut = Literal["dataset", "specimen", "volume", "none"]
FINAL = "final"


@dataclass(frozen=True)
class Source:
    """The volumes of one data set that train or test a network.

    Parameters
    ----------
    dataset : str
        A data set of the manifest in ``$CELLSEG3D_DATA``.
    label_map : mapping of int to int, optional
        The class of each label value in the files. Values that it does not hold become
        0. When None, labels are not changed.
    test : bool or list of str
        Whether these volumes are used for testing only, or the names of those that are.
    part : (str, float, float), optional
        The part of every volume that is used: an axis, and where the part begins and
        ends as shares of the axis.
    name : str
        The name in the record; that of the data set when empty.
    spacing_known : bool
        Whether the manifest's voxel edges are lengths; if not, they are proportions.
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
        """Return whether a volume is used for testing only."""
        return self.test if isinstance(self.test, bool) else volume in self.test


@dataclass(frozen=True)
class WeightsRecipe:
    """How the weights of one bundle are made and scored.

    Parameters
    ----------
    name : str
        The name of the bundle.
    classes : tuple of str
        Names of the classes, background first.
    sources : tuple of Source
        The labelled volumes; empty for simulated tomograms.
    simulated : mapping of str to int
        The numbers of tomograms that are simulated: ``cells`` to train on,
        ``validation`` to choose the best weights by, ``test`` for each condition. It is
        empty if none are.
    labels : {"classes", "objects"}
        What the label files hold: class indices or object ids.
    target : str
        What the network learns from the labels: classes, border-core or affinity.
    spacing_um : tuple of float or None
        The spacing to which volumes with a known spacing are resampled; None leaves
        them as they are.
    leave_out : {"dataset", "specimen", "volume", "none"}
        What each further training leaves out and is scored on.
    steps, left_out_steps : int
        Steps of the training on all volumes, and of each that leaves something out.
    refine_steps : int
        Steps of a training that begins with the weights that the bundle ships.
    adapts : bool
        Whether predictions measure the normalisation on every volume.
    settings : mapping
        Keys of the bundle's training config that differ from the bundle's own.
    members : mapping of str to str
        For a bundle that fuses others: its member to the bundle whose weights it takes.
    data_of : str
        The bundle whose data this one is trained on as well. What this recipe does not
        say about the data is taken from that bundle's recipe.
    label_map : mapping of int to int, optional
        The class of each label value of simulated tomograms. When None, the classes are
        those of the simulation.
    """

    name: str
    classes: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    simulated: Mapping[str, int] = field(default_factory=dict)
    labels: Literal["classes", "objects"] = "classes"
    target: str = "classes"
    spacing_um: tuple[float, float, float] | None = None
    leave_out: LeaveOut = "none"
    steps: int = 4000
    left_out_steps: int = 1500
    refine_steps: int = 300
    adapts: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    data_of: str = ""
    label_map: Mapping[int, int] | None = None


# The keys of a recipe about its data, which are taken from the recipe of `data_of`.
_OF_DATA = ("classes", "simulated", "labels", "target", "spacing_um", "leave_out")


def read_recipe(configs_dir: Path, name: str) -> WeightsRecipe:
    """Return the recipe of a bundle's weights.

    Raises
    ------
    ConfigError
        If the bundle has no recipe, or a key or value in it is unknown.
    """
    path = configs_dir / "weights" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(recipe_names(configs_dir))
        message = (
            f"{name}: its weights cannot be made, because there is no {path}; expected "
            f"one of {known}"
        )
        raise ConfigError(message)
    values = dict(read_config(path))
    refuse_unknown(values, _names(WeightsRecipe), str(path))
    sources = []
    for entry in values.pop("sources", []):
        refuse_unknown(entry, _names(Source), str(path))
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
        message = (
            f"{path}: label_map is for simulated tomograms, and the recipe has none; "
            "give it to each source instead"
        )
        raise ConfigError(message)
    for key in ("classes", "spacing_um"):
        if values.get(key) is not None:
            values[key] = tuple(values[key])
    return WeightsRecipe(name=name, sources=tuple(sources), **values)


def recipe_names(configs_dir: Path) -> list[str]:
    """Return the names of the bundles whose weights the checkout can make, sorted."""
    return sorted(path.stem for path in (configs_dir / "weights").glob("*.yaml"))


def _names(kind: type) -> list[str]:
    return [each.name for each in fields(kind)]

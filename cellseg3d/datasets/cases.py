"""Cases and datalists, and how file paths become names of cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import IntensityUnit, Volume
from cellseg3d.core.words import suggestion
from cellseg3d.datasets.targets import LabelTarget
from cellseg3d.io import registry
from cellseg3d.io.sniff import volume_suffix

LabelKind = Literal["classes", "objects", "masks"]
Split = Literal["training", "validation", "test"]
INNER = "::"
# The value of `annotated_slices` that means all slices with a label above 0.
LABELLED = "labelled"


@dataclass(frozen=True)
class Case:
    """One image with its label, and the specimen that it came from.

    Parameters
    ----------
    name : str
        Name of the case, unique in its datalist.
    image, label : str
        Paths, with ``::inner`` for a dataset in an HDF5 or Zarr file. `label` is None
        for an image without a label. If the datalist's labels are ``"masks"``, it is a
        folder with one mask per object.
    group : str
        The specimen. All cases of one group stay on one side of a fold.
    split : {"training", "validation", "test"} or None
        The side that the datalist prescribes; with None the folds decide.
    spacing : Spacing or None
        Voxel edges, instead of those in the files; None takes those in the files.
    annotated : tuple of str or None
        The classes that this label annotates; None means all of them.
    channel : int, str or None
        The number or name of the channel to read, for an image with several channels.
    channels : int, tuple of int or str, or None
        The channels that the network sees, by name or number and in their order; or
        how many the image must have, to see all of them.
    read_as : str or None
        What an axis of both files means, as in `cellseg3d.io.registry.open_volume`.
    annotated_slices : tuple of int, "labelled" or None
        Numbers of the slices across z that the label annotates, counted from 0, or
        ``"labelled"`` for all slices with a value above 0. All other slices are not
        annotated. None means that all slices are annotated.
    """

    name: str
    image: str
    label: str | None
    group: str
    split: Split | None = None
    spacing: Spacing | None = None
    annotated: tuple[str, ...] | None = None
    channel: int | str | None = None
    read_as: str | None = None
    annotated_slices: str | tuple[int, ...] | None = None
    channels: registry.Channels | None = None

    @property
    def opening(self) -> registry.Opening:
        """The options for opening the image."""
        return {
            "channel": self.channel,
            "channels": self.channels,
            "read_as": self.read_as,
        }

    def open_image(self) -> Volume:
        """Return the image, which is not read yet, with the spacing of the datalist.

        Raises
        ------
        InputError
            If the file cannot be used, as for `cellseg3d.io.registry.open_volume`.
        """
        volume = registry.open_volume(self.image, **self.opening)
        return replace(volume, spacing=self.spacing or volume.spacing)


@dataclass(frozen=True)
class Datalist:
    """All cases of a data set and what its label values mean.

    Parameters
    ----------
    name : str
        Name of the data set in reports.
    classes : tuple of str
        Class names by class index, ``"background"`` first.
    label_map : mapping of int to int, or None
        The class index of each value in the label files. 0 and 255 keep their meaning
        unless named here; any other value that is not named is an error. With None the
        values are class indices.
    cases : tuple of Case
        The images with their labels.
    labels : {"classes", "objects", "masks"}
        Whether a label holds class indices, holds object ids (every id > 0 is class 1),
        or is a folder with one mask per object.
    intensity_unit : {"1/um", "arbitrary"}
        Unit of the voxel values.
    allow_shared_groups : bool
        Whether cases of one specimen may be on both sides of a fold. Every report then
        repeats a warning.
    path : Path or None
        The file or folder that the datalist was read from.
    target : LabelTarget
        What a network learns from the labels. If it is made of object ids, `classes`
        are the target's classes.
    """

    name: str
    classes: tuple[str, ...]
    label_map: Mapping[int, int] | None
    cases: tuple[Case, ...]
    labels: LabelKind = "classes"
    intensity_unit: IntensityUnit = "arbitrary"
    allow_shared_groups: bool = False
    path: Path | None = field(default=None, compare=False)
    target: LabelTarget = field(default_factory=LabelTarget)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, each once, in the order of the cases."""
        return tuple(dict.fromkeys(case.group for case in self.cases))

    @property
    def where(self) -> str:
        """The name of this datalist in messages: its path if it has one."""
        return str(self.path or self.name)

    def aimed_at(self, target: LabelTarget | Mapping[str, Any] | None) -> "Datalist":
        """Return the data set with another target, and with the target's classes.

        Raises
        ------
        ConfigError
            If the target needs object ids and the labels hold classes, or if a case
            annotates only some classes.
        """
        wanted = LabelTarget.parse(target)
        if not wanted.of_objects:
            return self
        if self.labels == "classes":
            message = (
                f"{self.where}: target {wanted.kind!r} is made of object ids, and its "
                'labels are classes; say "labels": "objects" in the datalist if '
                "every object has its own value"
            )
            raise ConfigError(message)
        if any(case.annotated is not None for case in self.cases):
            message = (
                f"{self.where}: 'annotated' names classes, which target "
                f"{wanted.kind!r} replaces; remove it"
            )
            raise ConfigError(message)
        return replace(self, classes=wanted.classes, target=wanted)

    def select(self, names: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases whose name or group is among `names`.

        Raises
        ------
        ConfigError
            If a name fits no case and no group.
        """
        known = {case.name for case in self.cases} | set(self.groups)
        for name in names:
            if name not in known:
                message = f"{self.where}: no case or group is called {name!r}" + (
                    suggestion(name, sorted(known))
                )
                raise ConfigError(message)
        wanted = set(names)
        return tuple(
            case for case in self.cases if case.name in wanted or case.group in wanted
        )


def split_inner(location: str) -> tuple[Path, str | None]:
    """Return the file and the inner path of ``file.h5::raw``."""
    return registry.split_inner(location, None)


def case_stem(location: str) -> str:
    """Return a case's name from its image's path: no folder, suffix or inner path."""
    name = split_inner(location)[0].name
    suffix = volume_suffix(name)
    return name[: -len(suffix)] if suffix and len(name) > len(suffix) else name

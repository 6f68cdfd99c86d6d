"""Options that say how files are to be read, for the verbs that have them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg3d.core.errors import ConfigError

if TYPE_CHECKING:
    from cellseg3d.io.registry import Opening

SpacingUm = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        metavar="Z Y X", help="Use these voxel edges in um, not those of the file."
    ),
]
AnnotatedSlices = Annotated[
    str | None,
    typer.Option(
        metavar="labelled|NUMBERS",
        help="Only these slices of the labels are annotated, such as 3,10,24, counted "
        "from 0; or labelled, for those with a label.",
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        help="Name the classes in the order of their values, such as "
        "background,cell,nucleus."
    ),
]
Inner = Annotated[
    str | None,
    typer.Option(
        help="Read this dataset of an HDF5 file, or this image of a Zarr folder."
    ),
]
Level = Annotated[
    int, typer.Option(help="Read this level of an OME-Zarr pyramid; 0 is full size.")
]
Channel = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|NUMBER",
        help="Read this one channel or colour of several: its name, or its number "
        "counted from 0.",
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES|NUMBERS|all",
        help="Read these channels in this order, such as DAPI,actin or 0,2; or all.",
    ),
]
Time = Annotated[
    int | None,
    typer.Option(min=0, help="Read this time point, counted from 0."),
]
ReadAs = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="slices|channels|times|AXES",
        help="Say what the axes are, if the file does not say it or says it wrongly: "
        "the third axis counts slices, channels or times; or give one letter for each "
        "axis, slowest first, such as zyxc.",
    ),
]
TruthMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="OLD:NEW",
        help="Read the value OLD of the truth as NEW, such as 255:1. Give the option "
        "once for each value.",
    ),
]


def several(text: str | None) -> str | tuple[str, ...] | None:
    """Return the channels that ``--channels`` names: ``all``, names or numbers.

    Raises
    ------
    ConfigError
        If the text names none.
    """
    if text is None or text.strip().casefold() == "all":
        return None if text is None else "all"
    names = tuple(word.strip() for word in text.split(",") if word.strip())
    if not names:
        raise ConfigError(
            f"`channels` is {text!r}; expected names or numbers, such as DAPI,actin or "
            "0,2, or all"
        )
    return names


def opening_of(
    spacing_um: tuple[float, float, float] | None,
    channel: str | None,
    channels: str | None,
    time: int | None,
    read_as: str | None,
) -> "Opening":
    """Return what the options of a verb say about opening a volume.

    Raises
    ------
    ConfigError
        If `channels` names none.
    """
    opening: Opening = {
        "spacing": spacing_um,
        "channel": channel,
        "channels": several(channels),
        "read_as": read_as,
    }
    if time is not None:
        opening["time"] = time
    return opening


def value_map(pairs: Sequence[str] | None, option: str) -> Mapping[int, int] | None:
    """Return {OLD: NEW} from words such as ``2:1`` or ``2:1,3:1``; None without any.

    Raises
    ------
    ConfigError
        If a word is not of this form; the message names `option`.
    """
    words = [word for pair in pairs or [] for word in pair.split(",") if word]
    renaming = {}
    for word in words:
        old, mark, new = word.partition(":")
        if not (mark and old.strip().isdigit() and new.strip().isdigit()):
            message = f"{option} {word}: expected OLD:NEW, such as 255:1"
            raise ConfigError(message)
        renaming[int(old)] = int(new)
    return renaming or None


def class_names(text: str) -> tuple[str, ...]:
    """Return the names in a text such as ``"background, cell"``, without spaces."""
    return tuple(name.strip() for name in text.split(",") if name.strip())

"""Options that say how a file is to be read, for the verbs that read one volume."""

from typing import Annotated

import typer

from cellseg3d.core.errors import ConfigError

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


def several(text: str | None) -> "str | tuple[str, ...] | None":
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
            f"--channels is {text!r}; expected names or numbers, such as DAPI,actin or "
            "0,2, or all"
        )
    return names

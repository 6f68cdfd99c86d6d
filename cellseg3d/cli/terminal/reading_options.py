"""Options that say how files are to be read, for the verbs that have them."""

from typing import Annotated

import typer

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
    int | None,
    typer.Option(help="Read this channel, colour or time point, counted from 0."),
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


def class_names(text: str) -> tuple[str, ...]:
    """Return the names in a text such as ``"background, cell"``, without spaces."""
    return tuple(name.strip() for name in text.split(",") if name.strip())

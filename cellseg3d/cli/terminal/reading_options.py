"""Options of verbs that read one volume as its file says, or as the user says."""

from typing import Annotated

import typer

SpacingUm = Annotated[
    tuple[float, float, float] | None,
    typer.Option(metavar="Z Y X", help="Voxel edges in um, instead of the file's."),
]
Inner = Annotated[
    str | None,
    typer.Option(help="Dataset in an HDF5 file, or image in a Zarr folder."),
]
Level = Annotated[
    int, typer.Option(help="Level of an OME-Zarr pyramid; 0 is full size.")
]
Channel = Annotated[
    int | None,
    typer.Option(help="Which channel, colour or time point, counted from 0."),
]
ReadAs = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="slices|channels|times|AXES",
        help="What an axis is, where the file does not say it or says it wrongly; or "
        "a letter for each axis, slowest first, such as zyxc.",
    ),
]

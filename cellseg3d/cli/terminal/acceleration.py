"""The option that switches all acceleration off, the same for every verb."""

from typing import Annotated

import typer

# Read here alone: support asks for it where a command cannot be changed.
VARIABLE = "CELLSEG3D_ACCELERATION"
AccelerationOption = Annotated[
    str,
    typer.Option(
        "--acceleration",
        envvar=VARIABLE,
        help="auto, or off: compute every layer as torch does. Slower; it shows "
        "whether something that makes it faster is at fault.",
    ),
]

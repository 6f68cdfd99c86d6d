"""The option ``--acceleration``, the same in every verb that runs a network."""

from typing import Annotated

import typer

# The same as the option, for a command that cannot be changed, such as a script's.
VARIABLE = "CELLSEG3D_ACCELERATION"
AccelerationOption = Annotated[
    str,
    typer.Option(
        "--acceleration",
        envvar=VARIABLE,
        help="auto makes the network faster; off computes every layer with torch "
        "alone. off is slower: use it to find out whether the acceleration causes a "
        "problem.",
    ),
]

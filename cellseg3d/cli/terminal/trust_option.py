"""The option ``--trust`` of the verbs that build the objects that a config names."""

from typing import Annotated

import typer


def _let_through(context: typer.Context, names: list[str] | None) -> list[str] | None:
    """Let configs name these classes and functions until the verb has ended."""
    if names:
        from cellseg3d.bundle.trust import trusting  # noqa: PLC0415 - takes seconds

        context.with_resource(trusting(names))
    return names


Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="NAME",
        callback=_let_through,
        help="Let the config use this class or function from outside cellseg3d, such "
        "as mylab.losses.Clever. Its code runs on your machine, so name only what you "
        "trust. Give the option once for each name.",
    ),
]

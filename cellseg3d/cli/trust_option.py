"""The option --trust of the verbs that build what a config names."""

from typing import Annotated

import typer


def _let_through(context: typer.Context, names: list[str] | None) -> list[str] | None:
    """Let configs name these, too, until the verb has ended."""
    if names:
        from cellseg3d.bundle.trust import trusting  # noqa: PLC0415 - seconds

        context.with_resource(trusting(names))
    return names


Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="NAME",
        callback=_let_through,
        help="Let the config name this class or function of somebody else's, such as "
        "mylab.losses.Clever; it runs its author's code. Give it once for each name.",
    ),
]

"""``cellseg3d review``: choose what to correct, take it in, say what it gained."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cellseg3d.cli.terminal.reading_options import (
    Channel,
    Channels,
    SpacingUm,
    several,
)
from cellseg3d.cli.terminal.trust_option import Trust

if TYPE_CHECKING:
    from cellseg3d.bundle.model import TrainedModel
    from cellseg3d.review.merge import Reviewed

FIRST = "pick"


class _PickFirst(TyperGroup):
    """A group whose first verb need not be named: its volumes can follow at once."""

    @property
    def default(self) -> Any:  # noqa: ANN401 - click's, or typer's own
        """The verb that runs when none is named."""
        return self.commands[FIRST]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Put the first verb before words that name none."""
        if args and args[0] not in (*self.commands, "--help"):
            args = [FIRST, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PickFirst,
    help="Choose slices to correct, and train on the corrections.\n\n"
    "`cellseg3d review VOLUME... --bundle RUN --out REVIEW` runs `pick`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(name=FIRST)
def pick(
    volumes: Annotated[
        list[str], typer.Argument(help="Volumes, or folders of volumes.")
    ],
    *,
    bundle: Annotated[
        list[Path],
        typer.Option(
            help="Predict with this bundle or run of train. Give it several times to "
            "see where several networks disagree."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the review into this new folder.")],
    n: Annotated[
        int, typer.Option("--n", min=1, help="Pick this many pieces of slices.")
    ] = 20,
    size: Annotated[
        int, typer.Option(min=8, help="Longest side of a piece, in voxels.")
    ] = 512,
    axis: Annotated[
        str | None,
        typer.Option(
            help="Cut slices across this axis: z, y or x. By default, the axis across "
            "which the network sees slices; z for 3D networks."
        ),
    ] = None,
    before: Annotated[
        list[Path] | None,
        typer.Option(
            help="An earlier review, several times for several; its pieces and their "
            "neighbours are not picked again."
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Let 2D and 2.5D networks sweep these axes, such as zyx, and pick "
            "where they disagree."
        ),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Also predict flipped and turned copies; pick where they disagree.",
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(help="Compute on auto, cpu, cuda or mps (Apple).")
    ] = "auto",
    max_ram: Annotated[
        str | None, typer.Option(help="Take at most this much memory, such as 4G.")
    ] = None,
    spacing_um: SpacingUm = None,
    channel: Channel = None,
    channels: Channels = None,
    trust: Trust = None,
) -> None:
    """Write the slices from which the network would learn most, to correct them.

    Each becomes an image, predicted labels to correct, and a section of index.html.
    """
    del trust  # acts by itself
    from cellseg3d.bundle.model import load_model
    from cellseg3d.cli.terminal.voxel_bar import voxel_bar
    from cellseg3d.io.output.ownership import check_outputs
    from cellseg3d.prediction.batch import parse_bytes, tasks_of
    from cellseg3d.prediction.options import SegmentOptions
    from cellseg3d.review.pieces import MARKS, PAGE
    from cellseg3d.review.prepare import ReviewOptions, prepare_review

    options = SegmentOptions(
        axes=axes,
        tta=tta,
        device=device,
        max_ram=None if max_ram is None else parse_bytes(max_ram, "--max-ram"),
    )
    sources = [task.source for task in tasks_of(volumes, out)]
    check_outputs([out], sources)
    models = [load_model(path) for path in bundle]
    wanted = ReviewOptions(n, size, axis, spacing_um, channel, several(channels))
    with voxel_bar("review") as progress:
        review = prepare_review(
            sources, models, out, wanted, options, progress, before or ()
        )
    print(f"{out}: {len(review.pieces)} pieces; look at {out / PAGE}")
    print(
        f"correct the files *_labels.tif, or write yes into the column 'seen' of "
        f"{out / MARKS} where they are right"
    )
    print(f"next: cellseg3d review merge {out}")


@app.command()
def merge(
    reviews: Annotated[
        list[Path], typer.Argument(help="Folders of reviews, the oldest first.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the data set into this new folder; by default, `merged` in "
            "the last review."
        ),
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(
            help="Take in the cases of this datalist, such as the one of the first "
            "training, too."
        ),
    ] = None,
    hold_back: Annotated[
        int,
        typer.Option(
            min=0,
            help="Keep this many pieces from the training, to score the network on "
            "pieces that it was not trained on.",
        ),
    ] = 0,
) -> None:
    """Turn corrected pieces into a data set; everything else is "not annotated".

    A piece counts if its labels were changed, or if it is marked as seen.
    """
    from cellseg3d.core.ignore import IGNORE
    from cellseg3d.core.words import counted
    from cellseg3d.review.gain import score_before
    from cellseg3d.review.merge import DATALIST, merge_reviews

    target = out or reviews[-1] / "merged"
    found = merge_reviews(reviews, target, add=add or (), hold_back=hold_back)
    changed = [each for each in found if each.changed]
    whole = sum(int((each.corrected != IGNORE).sum()) for each in found)
    print(
        f"{target / DATALIST}: {counted(len(found), 'piece')}, of which "
        f"{len(changed)} corrected; {sum(each.changed for each in found)} of {whole} "
        "pixels were wrong"
    )
    _table({"predicted": score_before(found)}, "Dice on the reviewed pieces")
    print(
        f"next: cellseg3d train --bundle RUN --data {target} --fold none --out NEW_RUN"
    )


@app.command()
def score(
    merged: Annotated[
        Path, typer.Argument(help="A folder that `cellseg3d review merge` wrote.")
    ],
    *,
    bundle: Annotated[
        list[Path], typer.Option(help="The bundle or run that was trained on it.")
    ],
    json: Annotated[
        Path | None, typer.Option(help="Write the scores to this JSON file as well.")
    ] = None,
    trust: Trust = None,
) -> None:
    """Print the Dice on the reviewed pieces before and after a training."""
    del trust  # acts by itself
    from cellseg3d.bundle.model import load_model
    from cellseg3d.review.merge import load_reviewed

    tell_gains(load_reviewed(merged), [load_model(path) for path in bundle], json)


def tell_gains(
    reviewed: "Sequence[Reviewed]",
    models: "Sequence[TrainedModel]",
    json_file: Path | None = None,
) -> None:
    """Print, and perhaps write, the Dice on reviewed pieces before and after."""
    import json

    from cellseg3d.core.atomic import write_text
    from cellseg3d.review.gain import gains

    found = gains(reviewed, models)
    rows = {
        f"{kind}, {when}": scores
        for kind, both in found.items()
        for when, scores in both.items()
    }
    _table(rows, "Dice on the reviewed pieces")
    if "held back" not in found:
        print(
            "The network was trained on these pieces; `review merge --hold-back N` "
            "keeps some for a fair score."
        )
    if json_file is not None:
        text = json.dumps(found, indent=2) + "\n"
        write_text(json_file, text)


def tell_gains_of(data: Path, run: Path) -> None:
    """Print what a training on merged reviews gained; nothing for other data."""
    from cellseg3d.bundle.model import load_model
    from cellseg3d.core.errors import CellSegError
    from cellseg3d.review.merge import RECORD, load_reviewed

    folder = data if data.is_dir() else data.parent
    if not (folder / RECORD).is_file():
        return
    try:
        tell_gains(load_reviewed(folder), [load_model(run)])
    except CellSegError as error:  # the training itself is done
        print(f"not scored on the reviewed pieces: {error}")


def _table(rows: Mapping[str, Mapping[str, float]], title: str) -> None:
    from rich.table import Table

    from cellseg3d.cli.terminal.console import table_console

    console = table_console()
    table = Table(box=None, pad_edge=False)
    table.add_column(title)
    for name in next(iter(rows.values())):
        table.add_column(name, justify="right")
    for words, scores in rows.items():
        table.add_row(words, *(f"{value:.4f}" for value in scores.values()))
    console.print(table)

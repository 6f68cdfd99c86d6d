"""`cellseg3d bundle`: list, fuse, assemble or check bundles."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="List the MONAI bundles that came along; fuse trained ones; assemble or check "
    "those of a checkout.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Configs = Annotated[
    Path | None,
    typer.Option("--configs", help="Folder of the fragments; the checkout's."),
]
Bundles = Annotated[
    Path | None, typer.Option("--bundles", help="Folder of the bundles; beside it.")
]


@app.command(name="list")
def list_bundles(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the table here, too.")
    ] = None,
) -> None:
    """List the bundles that `train --bundle NAME` knows."""
    from rich.console import Console
    from rich.table import Table

    from cellseg3d.bundle.compose import read_config
    from cellseg3d.bundle.shipped import shipped_bundles, weights_file

    rows = []
    for name, folder in shipped_bundles().items():
        metadata = read_config(folder / "configs" / "metadata.json")
        weights = weights_file(folder).is_file()
        rows.append(
            {
                "name": name,
                "version": metadata["version"],
                "description": metadata["description"],
                "spacing_um": metadata.get("spacing_um"),
                "weights": weights,
                "score": metadata.get("score", "") if weights else "",
                "eval_metrics": metadata.get("eval_metrics") or {},
                "path": str(folder),
            }
        )
    table = Table("name", "for", "spacing (um)", "scores of its weights", box=None)
    for row in rows:
        edges = row["spacing_um"]
        spacing = " x ".join(f"{edge:g}" for edge in edges) if edges else "any"
        score = row["score"] or "no weights: train it first"
        table.add_row(row["name"], row["description"], spacing, score)
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


@app.command()
def fuse(
    out: Annotated[Path, typer.Argument(help="Folder of the new bundle.")],
    members: Annotated[
        list[Path], typer.Argument(help="Trained bundles or runs of train.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Datalist or folder whose validation volumes fit the weights; that of "
            "the first member's training.",
        ),
    ] = None,
    fold: Annotated[
        str | None, typer.Option("--fold", help="Which specimen validates, as in it.")
    ] = None,
    axes: Annotated[
        str, typer.Option("--axes", help="What 2D and 2.5D networks sweep.")
    ] = "zyx",
    fit: Annotated[
        bool,
        typer.Option("--fit/--no-fit", help="Fit weights, or let all count alike."),
    ] = True,
) -> None:
    """Fuse trained bundles into one, each source weighted for every class.

    Weights are fitted on validation volumes that no member has trained on. A source
    that does not help gets weight zero.
    """
    from cellseg3d.training.combine_bundles import FuseOptions, fuse_bundles

    found = fuse_bundles(members, out, FuseOptions(data, fold, axes, fit))
    for name, row in found.get("weights", {}).items():
        print(f"{name}: " + ", ".join(f"{weight:.3f}" for weight in row))
    for note in found.get("notes", []):
        print(f"note: {note}")
    print(found.get("sentence", "all sources count alike"))
    print(f"next: cellseg3d predict VOLUME --bundle {out} --out LABELS")


@app.command(name="train-weights")
def train_weights(
    name: Annotated[
        str, typer.Argument(help="Bundle whose weights are made (configs/weights/).")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of data and runs, kept to go on; runs/weights/NAME when not "
            "given."
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Train one part alone: final, or what it leaves out."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop after so many minutes; the same command goes on."),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(help="Minutes of training for every part, in place of its steps."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")
    ] = None,
    score_only: Annotated[
        bool,
        typer.Option(
            "--score-only", help="Train nothing: score and ship what was trained."
        ),
    ] = False,
) -> None:
    """Make a bundle's weights again: train, score on what was left out, write the card.

    Labelled volumes are read from $CELLSEG3D_DATA; tomograms are simulated. Stopped at
    any moment, the same command goes on.
    """
    import os

    from cellseg3d.bundle.assemble import assemble as write
    from cellseg3d.bundle.shipped import configs_dir, find_bundle
    from cellseg3d.weights.make import MakeOptions, make_weights

    data = os.environ.get("CELLSEG3D_DATA")
    options = MakeOptions(only, minutes, within, device, score_only)
    folder = out or Path("runs") / "weights" / name
    record = make_weights(name, folder, Path(data) if data else None, options)
    if record is None:
        print(f"{folder}: not done yet; the same command goes on")
        return
    source = configs_dir()
    write(source, find_bundle(name).parent)
    print(f"weights: {find_bundle(name) / 'models'}; record: {record}")


@app.command()
def assemble(configs: Configs = None, bundles: Bundles = None) -> None:
    """Write bundles/ anew from configs/."""
    from cellseg3d.bundle.assemble import assemble as write
    from cellseg3d.bundle.shipped import configs_dir

    source = configs or configs_dir()
    for folder in write(source, bundles or source.parent / "bundles"):
        print(folder)


@app.command()
def check(configs: Configs = None, bundles: Bundles = None) -> None:
    """Fail if bundles/ is not what configs/ says."""
    from cellseg3d.bundle.assemble import drift
    from cellseg3d.bundle.shipped import configs_dir
    from cellseg3d.core.errors import ConfigError

    source = configs or configs_dir()
    lines = drift(source, bundles or source.parent / "bundles")
    if lines:
        message = "; ".join(lines) + "; run `cellseg3d bundle assemble`"
        raise ConfigError(message)
    print("bundles are what configs/ says")

"""``cellseg3d bundle``: list, combine, train and check bundles."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

logger = logging.getLogger(__name__)
# Verbs that were renamed, with their names of today.
RENAMED = {"fuse": "combine"}


class VerbsOfBundles(TyperGroup):
    """The verbs of ``bundle``, which are also found by the names that they had."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """Return a verb; an old name gives a warning that says the new one."""
        new = RENAMED.get(cmd_name, cmd_name)
        if new != cmd_name:
            logger.warning("`bundle %s` was renamed to `bundle %s`", cmd_name, new)
        return super().get_command(ctx, new)


app = typer.Typer(
    cls=VerbsOfBundles,
    help="List, combine, train and check bundles.\n\n"
    "A bundle is a folder in MONAI's format that holds a network, its settings and, "
    "once it is trained, its weights.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Configs = Annotated[
    Path | None,
    typer.Option(
        "--configs",
        help="Read the configs from this folder; by default, configs/ of the checkout.",
    ),
]
Bundles = Annotated[
    Path | None,
    typer.Option(
        "--bundles",
        help="The folder of the bundles; by default, bundles/ beside the configs.",
    ),
]


@app.command(name="list")
def list_bundles(
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the table to this JSON file as well."),
    ] = None,
) -> None:
    """List the bundles that come with cellseg3d.

    Give one of the names to `cellseg3d train --bundle` or, if the bundle has weights,
    to `cellseg3d predict --bundle`.
    """
    from rich.console import Console
    from rich.table import Table

    from cellseg3d.bundle.compose import read_config
    from cellseg3d.bundle.shipped import shipped_bundles, weights_file
    from cellseg3d.core.atomic import write_text

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
        score = row["score"] or "it has no weights: train it first"
        table.add_row(row["name"], row["description"], spacing, score)
    Console().print(table)
    if json_file is not None:
        write_text(json_file, json.dumps(rows, indent=1) + "\n")


@app.command()
def combine(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Write the new bundle to this folder."),
    ],
    members: Annotated[
        list[Path],
        typer.Argument(
            metavar="MEMBER",
            help="The trained bundles, or runs of `cellseg3d train`, to combine.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Fit the weights on the validation volumes of this datalist or "
            "folder; by default, on those of the first member's training.",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold",
            help="Take this specimen for validation: its number or name; by default, "
            "as in the first member's training.",
        ),
    ] = None,
    axes: Annotated[
        str,
        typer.Option(
            "--axes",
            help="Let 2D and 2.5D networks segment the slices across each of these "
            "axes.",
        ),
    ] = "zyx",
    fit: Annotated[
        bool,
        typer.Option(
            "--fit/--no-fit", help="Fit the weights, or let all members count equally."
        ),
    ] = True,
) -> None:
    """Combine the networks of trained bundles in a new bundle.

    Each axis of each network gets a weight for each class. The weights are fitted on
    validation volumes that no member has trained on; what does not help gets weight 0.
    """
    from cellseg3d.training.combine_bundles import CombineOptions, combine_bundles

    found = combine_bundles(members, out, CombineOptions(data, fold, axes, fit))
    for name, row in found.get("weights", {}).items():
        print(f"{name}: " + ", ".join(f"{weight:.3f}" for weight in row))
    for note in found.get("notes", []):
        print(f"note: {note}")
    print(found.get("sentence", "all members count equally"))
    print(f"next: cellseg3d predict VOLUME --bundle {out} --out LABELS")


@app.command()
def export(
    name: Annotated[
        Path,
        typer.Argument(
            metavar="NAME",
            help="The bundle to export, which must have weights: its name or folder, "
            "or a run of `cellseg3d train`.",
        ),
    ],
    bioimageio: Annotated[
        Path,
        typer.Option(
            metavar="OUT",
            help="Write a package of bioimage.io to this new folder, or to this file "
            "if its name ends in .zip.",
        ),
    ],
    image: Annotated[
        Path | None,
        typer.Option(
            help="Take the test input from the middle of this volume; by default, a "
            "tomogram is simulated."
        ),
    ] = None,
) -> None:
    """Write a bundle for other programs, such as those that read bioimage.io.

    The package is still a MONAI bundle. It gets TorchScript weights, a description, a
    test input with its output, and a picture as well.
    """
    from cellseg3d.bundle.bioimageio.export import export_bioimageio
    from cellseg3d.io.registry import open_volume

    volume = None if image is None else open_volume(image, channels="all")
    print(export_bioimageio(name, bioimageio, volume))


@app.command(name="import")
def import_bundle(
    package: Annotated[
        Path,
        typer.Argument(help="Package of bioimage.io or MONAI: a folder or a zip file."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    activation: Annotated[
        str | None,
        typer.Option(
            help="What makes probabilities of its output where the package does not "
            "say: softmax (classes) or sigmoid (each channel by itself)."
        ),
    ] = None,
    intensity: Annotated[
        str | None,
        typer.Option(
            help="How raw intensities become the input of a package of MONAI: "
            "percentile:LOW:HIGH or range:LOW:HIGH (these become the ends of its "
            "range), zscore or none; by default, percentile:0.5:99.5."
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Order of the axes in the input of a package of MONAI, such as xyz; "
            "by default, zyx or yx."
        ),
    ] = None,
) -> None:
    """Make a bundle of a model of bioimage.io or MONAI, without running its code.

    TorchScript or ONNX weights are searched for anything that does not compute. The
    new bundle must answer the test input of a package of bioimage.io with its test
    output. A package of MONAI has none: its answer must have the declared shape. What
    is assumed about its input is said, and written on the bundle's card.
    """
    from cellseg3d.bundle.take_in import import_package

    import_package(package, out, activation=activation, intensity=intensity, axes=axes)
    print(f"next: cellseg3d predict VOLUME --bundle {out} --out LABELS")


@app.command(name="train-weights")
def train_weights(  # noqa: PLR0917 - options of a command line
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The bundle to train; configs/weights/ says how.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Keep data and runs in this folder; by default, runs/weights/NAME."
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Train only this part: final (on all data), or the name of the "
            "specimen that is left out."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Stop after this many minutes; the same command goes on later."
        ),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            help="Train each part for this many minutes, not for its number of steps."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Compute on auto, cpu, cuda or cuda:1.")
    ] = None,
    score_only: Annotated[
        bool,
        typer.Option(
            "--score-only",
            help="Train nothing: score what was trained and put it into the bundle.",
        ),
    ] = False,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="Begin with the weights that the bundle ships, for fewer steps; "
            "only for recipes that leave nothing out in turn.",
        ),
    ] = False,
) -> None:
    """Make the weights of a bundle again, with their scores.

    The network is trained once for each specimen that is left out, scored on that
    specimen, and at last trained on all data. The weights and the page that describes
    them then go into the bundle. Labelled volumes are read from $CELLSEG3D_DATA;
    tomograms are simulated. If the command is stopped, start it again: it goes on.
    """
    import os

    from cellseg3d.bundle.assemble import assemble as write
    from cellseg3d.bundle.shipped import configs_dir, find_bundle
    from cellseg3d.weights.make import MakeOptions, make_weights

    data = os.environ.get("CELLSEG3D_DATA")
    options = MakeOptions(only, minutes, within, device, score_only, refine)
    folder = out or Path("runs") / "weights" / name
    record = make_weights(name, folder, Path(data) if data else None, options)
    if record is None:
        print(f"{folder}: is not complete yet; start the same command again to go on")
        return
    source = configs_dir()
    write(source, find_bundle(name).parent)
    print(f"wrote the weights to {find_bundle(name) / 'models'}; record: {record}")


@app.command()
def calibrate(
    name: Annotated[
        Path,
        typer.Argument(
            metavar="NAME",
            help="The bundle or run to measure: its folder, or the name of a bundle of "
            "a checkout.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Measure on the validation volumes of this datalist or folder; by "
            "default, on those of its training.",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold",
            help="Take this specimen for validation: its number or name; by default, "
            "as in the training.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Keep the volumes on which a bundle of the checkout is measured in "
            "this folder; by default, runs/weights/NAME."
        ),
    ] = None,
) -> None:
    """Fit the temperature of a network's probabilities, without training it again.

    Volumes that did not train the network are predicted. The temperature that makes
    its probabilities come true, and how its Dice follows from them, are stored with it.
    Labels do not change. Training does the same at its end.
    """
    import os

    from cellseg3d.bundle.shipped import configs_dir, find_bundle, shipped_bundles
    from cellseg3d.metrics.temperature import errors_in_words

    if str(name) in shipped_bundles() and data is None:
        from cellseg3d.bundle.assemble import assemble as write
        from cellseg3d.weights.confidence import calibrate_shipped

        place = os.environ.get("CELLSEG3D_DATA")
        folder = out or Path("runs") / "weights" / str(name)
        found = calibrate_shipped(str(name), folder, Path(place) if place else None)
        write(configs_dir(), find_bundle(name).parent)
    else:
        from cellseg3d.calibration.confidence import calibrate_bundle

        found = calibrate_bundle(find_bundle(name), data, fold)
    print(errors_in_words(found))


@app.command()
def assemble(configs: Configs = None, bundles: Bundles = None) -> None:
    """Write all bundles of a checkout from its configs."""
    from cellseg3d.bundle.assemble import assemble as write
    from cellseg3d.bundle.shipped import configs_dir

    source = configs or configs_dir()
    for folder in write(source, bundles or source.parent / "bundles"):
        print(folder)


@app.command()
def check(configs: Configs = None, bundles: Bundles = None) -> None:
    """Check that bundles and configs of a checkout agree."""
    from cellseg3d.bundle.assemble import drift
    from cellseg3d.bundle.shipped import configs_dir
    from cellseg3d.core.errors import ConfigError

    source = configs or configs_dir()
    lines = drift(source, bundles or source.parent / "bundles")
    if lines:
        message = "; ".join(lines) + "; run `cellseg3d bundle assemble`"
        raise ConfigError(message)
    print("the bundles agree with the configs")

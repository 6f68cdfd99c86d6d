"""``cellseg3d train``: train a bundle's network on labelled volumes."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg3d.cli.terminal.acceleration import AccelerationOption
from cellseg3d.cli.terminal.reading_options import (
    AnnotatedSlices,
    Channel,
    Channels,
    SpacingUm,
    several,
)
from cellseg3d.cli.terminal.trust_option import Trust
from cellseg3d.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellseg3d.runs.options import TrainOptions

# The file that keeps the plan of a training without --bundle in its run folder.
PLAN = "plan.yaml"


def command(
    *,
    out: Annotated[
        Path, typer.Option("--out", help="Write the run to this new folder.")
    ],
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            help="Train the network of this bundle: its name, such as "
            "cell_tomo_unet3d (`cellseg3d bundle list` shows all), or its folder. By "
            "default, `cellseg3d plan` chooses.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Train on this data set: a datalist (JSON, YAML), or a folder whose "
            "volumes and labels pair by name.",
        ),
    ] = None,
    spacing_um: SpacingUm = None,
    annotated_slices: AnnotatedSlices = None,
    channel: Channel = None,
    channels: Channels = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="Learn this from labels that are object ids: classes, border-core, "
            "affinity or long-affinity. All but the first separate objects that touch.",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold",
            help="Validate on this specimen: its number or name; none trains on all.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Train for this many epochs."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            help="Train for this many minutes by the clock, validation included.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Draw all random numbers from this seed: two runs with one seed are "
            "equal.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            help="Prepare samples in this many extra processes.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Compute on auto, cpu, cuda, cuda:1, or mps (an Apple GPU).",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="Compute in auto, float32, or bfloat16, in which recent processors "
            "are faster.",
        ),
    ] = None,
    acceleration: AccelerationOption = "auto",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with what was begun in --out: the training."
        ),
    ] = False,
    pretrained: Annotated[
        str | None,
        typer.Option(
            "--pretrained",
            metavar="WEIGHTS",
            help="Begin with the weights of this run, bundle or file (.safetensors, "
            ".pt), adapted to your classes and channels. By default, the training "
            "begins with the weights of --bundle if it has any.",
        ),
    ] = None,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch", help="Begin with random weights, not with the bundle's."
        ),
    ] = False,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            help="Use the settings of this file, which `cellseg3d plan --out` or "
            "`cellseg3d tune` has written.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set any other key of the config, such as "
            "train::dataset::samples=200. Give the option once for each key.",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="After the training, measure how far windows must overlap in a "
            "prediction (the halo), and fit the temperature of the probabilities, or "
            "skip both.",
        ),
    ] = True,
    fit_axes: Annotated[
        str | None,
        typer.Option(
            "--fit-axes",
            metavar="AXES",
            help="After the training, let a 2D or 2.5D network segment the slices "
            "across each of these axes, such as zyx, and fit a weight for each axis on "
            "the validation volumes.",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show no progress bar.")
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json", help="Write the scores and the record to this file as well."
        ),
    ] = None,
    trust: Trust = None,
) -> None:
    """Train a 2D, 2.5D or 3D network on labelled volumes.

    Two labelled volumes are enough to begin with: the network trains on one and is
    validated on the other. Afterwards the run folder holds the trained network; use it
    with `cellseg3d predict --bundle RUN`.
    """
    del trust  # its callback has acted
    from cellseg3d.bundle.compose import parse_setting, read_config
    from cellseg3d.cli.main import leads
    from cellseg3d.cli.review import tell_gains_of
    from cellseg3d.io.output.ownership import check_outputs
    from cellseg3d.runs.options import TrainOptions
    from cellseg3d.training.train import resume as go_on
    from cellseg3d.training.train import train

    named = [Path(each) for each in (data, plan, pretrained) if each]
    given = [path for path in named if path.is_file()]
    check_outputs([] if json is None else [json], given)
    options = TrainOptions(
        fold=fold,
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        workers=workers,
        device=device,
        precision=precision,
        acceleration=None if acceleration == "auto" else acceleration,
        target=target,
        pretrained=_first_weights(
            bundle,
            pretrained,
            from_scratch or resume,
            own_network=any(text.startswith("network_def") for text in settings or []),
        ),
        pretrained_if_fits=pretrained is None,
        progress=not quiet,
        plan={} if plan is None else read_config(plan),
        settings=dict(parse_setting(text) for text in settings or []),
        calibrate=calibrate,
        fit_axes=fit_axes,
        spacing_um=spacing_um,
        annotated_slices=annotated_slices,
        channel=channel,
        channels=several(channels),
    )
    if resume:
        go_on(out, options, data=data)
    elif data is None:
        raise ConfigError("--data is missing; give a datalist or a folder of volumes")
    elif bundle is not None:
        train(bundle, data, out, options)
    elif plan is not None:
        raise ConfigError(
            f"--bundle is missing; give the bundle that the first lines of {plan} name"
        )
    else:
        _train_as_planned(data, out, options)
    if leads():
        _tell(out, json)
        if data is not None:
            tell_gains_of(data, out)


def _first_weights(
    bundle: Path | str | None, pretrained: str | None, none: bool, *, own_network: bool
) -> Path | None:
    """Return the file of the weights to begin with, or None for random weights."""
    from cellseg3d.bundle.shipped import find_bundle, weights_file, weights_of
    from cellseg3d.cli.main import leads

    if pretrained is not None:
        if none:
            message = (
                "--pretrained excludes --from-scratch and --resume; give only one of "
                "the three"
            )
            raise ConfigError(message)
        return weights_of(pretrained)
    if bundle is None or none:
        return None
    file = weights_file(find_bundle(bundle))
    if not file.is_file():
        return None
    if own_network:
        said = (
            f"the training begins with random weights: those of {bundle} do not fit a "
            "changed network"
        )
    else:
        said = (
            f"the training begins with the weights of {bundle}; give --from-scratch to "
            "begin with random weights"
        )
    if leads():
        print(said)
    return None if own_network else file


def _train_as_planned(data: Path, out: Path, options: "TrainOptions") -> None:
    """Train with the plan of ``cellseg3d plan``; keep its reasons in the run folder."""
    from dataclasses import replace

    from cellseg3d.cli.main import leads
    from cellseg3d.core.atomic import write_text
    from cellseg3d.core.steps import say
    from cellseg3d.datasets.cases import Datalist
    from cellseg3d.datasets.told import told_datalist
    from cellseg3d.doctor.examine import examine_before_training
    from cellseg3d.planning.files import plan_data
    from cellseg3d.runs.folder import check_free
    from cellseg3d.training.train import train

    check_free(out)  # planning takes minutes
    told = told_datalist(
        data,
        options.spacing_um,
        options.annotated_slices,
        channel=options.channel,
        channels=options.channels,
    )
    say("examining the data, then timing a training step to choose a plan")
    examine_before_training(told)  # a plan for broken files would hide the fault
    source = told if isinstance(told, Datalist) else data
    plan, text = plan_data(source, options.minutes)
    said = ", ".join(
        f"{key.rsplit('::', maxsplit=1)[-1]} {value}"
        for key, value in plan.settings.items()
    )
    if leads():
        print(f"plan: {plan.kind}, {plan.bundle}: {said}; reasons: {out / PLAN}")

    def keep(_parser: object) -> None:
        write_text(out / PLAN, text)

    train(plan.bundle, data, out, replace(options, plan=plan.settings), watch=keep)


def _tell(out: Path, target: Path | None) -> None:
    """Print the scores of a training and what to do next."""
    import json

    from cellseg3d.core.atomic import write_text
    from cellseg3d.runs.record import NAME
    from cellseg3d.training.verdict import verdict

    record = json.loads((out / NAME).read_text(encoding="utf-8"))
    score = record.get("best_score")
    print(f"trained {record['iteration']} steps in {record['cost']['wall_s']:.0f} s")
    best = best_row(record)
    if best is not None:
        _show(best)
    if score is not None:
        print(f"mean Dice on the validation volumes: {score:.4f}")
    if said := verdict(record.get("history", [])):
        print(said)
    if "sentence" in (record.get("fusion") or {}):
        print(f"fusion: {record['fusion']['sentence']}")
    found = record.get("calibration") or {}
    if found.get("halo_error") is not None:
        halo, apart = max(found["halo"]), found["halo_error"]
        print(
            f"with a halo of {halo} voxels, borders of windows change a probability by "
            f"at most {apart:.2g}"
        )
    if target is not None:
        facts = {"run": str(out), **record, "validation": best}
        text = json.dumps(facts, indent=1) + "\n"
        write_text(target, text)
    print(f"next: cellseg3d predict VOLUME --bundle {out} --out LABELS")


def best_row(record: "Mapping[str, Any]") -> "Mapping[str, Any] | None":
    """Return the best row of a record's history, or None if there are no scores."""
    for row in record.get("history", []):
        if "score" in row and row["iteration"] == record.get("best_iteration"):
            return dict(row)
    return None


def _show(row: "Mapping[str, Any]") -> None:
    """Print the Dice of each class and volume, and the recall of objects by size."""
    from rich.markup import escape
    from rich.table import Table

    from cellseg3d.cli.terminal.console import table_console

    console = table_console()
    table = Table(box=None, pad_edge=False)
    for title in ("validation volume", "class", "Dice", "objects found, by size"):
        table.add_column(title, overflow="fold")
    recall = row.get("recall_by_size") or {}
    for volume, classes in row["scores"].items():
        for name, dice in classes.items():
            sizes = recall.get(volume, {}).get(name, [])
            table.add_row(
                escape(volume),
                escape(name),
                "-" if dice is None else f"{dice:.4f}",
                "; ".join(_size(each) for each in sizes if each["n"]),
            )
    console.print(table)


def _size(found: "Mapping[str, Any]") -> str:
    return f"{found['size']} {round(found['recall'] * found['n'])}/{found['n']}"

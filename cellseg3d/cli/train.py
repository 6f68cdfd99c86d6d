"""`cellseg3d train`: a bundle and labelled volumes in, a trained bundle out."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg3d.cli.terminal.acceleration import AccelerationOption
from cellseg3d.cli.trust_option import Trust
from cellseg3d.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellseg3d.runs.folder import TrainOptions

# The plan that a training without a bundle was made by.
PLAN = "plan.yaml"


def command(
    *,
    out: Annotated[
        Path, typer.Option("--out", help="Run folder to make; it becomes a bundle.")
    ],
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            help="Network to train: a name (cell_tomo_unet2d, cell_tomo_unet25d, "
            "cell_tomo_unet3d) or a bundle's folder; as `cellseg3d plan` chooses "
            "when not given.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Datalist (JSON, YAML), or a folder of volumes and labels that pair "
            "by name.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="What to learn of labels that are object ids: classes, border-core or "
            "affinity; the last two tell touching objects apart.",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold",
            help="Which specimen validates: its number or name; 'none' trains on all.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="How long to train.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", help="How long to train, validation included, by the clock."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of everything random.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, help="Extra processes that prepare samples."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps (Apple)."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="auto, float32 or bfloat16 (half the work)."),
    ] = None,
    acceleration: AccelerationOption = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in --out.")
    ] = False,
    pretrained: Annotated[
        str | None,
        typer.Option(
            "--pretrained",
            metavar="WEIGHTS",
            help="Begin with the weights of this run, bundle or file (.safetensors, "
            ".pt), adapted to your classes and channels. By default, --bundle begins "
            "with its own weights when it has some.",
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
        typer.Option("--plan", help="Numbers that `cellseg3d plan --out` has chosen."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other key of the config, such as train::dataset::samples=200.",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Afterwards, measure the least halo that prediction needs.",
        ),
    ] = True,
    fit_axes: Annotated[
        str | None,
        typer.Option(
            "--fit-axes",
            metavar="AXES",
            help="Afterwards, let 2D and 2.5D networks sweep these axes, such as zyx, "
            "and fit on the validation volumes how much each counts.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write scores and record here too.")
    ] = None,
    trust: Trust = None,
) -> None:
    """Train a 2D, 2.5D or 3D network on labelled volumes.

    Two labelled volumes are enough to begin with: one trains, one validates. The
    run folder is a bundle of its own: predict with `--bundle RUN`.
    """
    del trust  # acts by itself
    from cellseg3d.bundle.compose import parse_setting, read_config
    from cellseg3d.cli.main import leads
    from cellseg3d.io.ownership import check_outputs
    from cellseg3d.runs.folder import TrainOptions
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
        progress=not quiet,
        plan={} if plan is None else read_config(plan),
        settings=dict(parse_setting(text) for text in settings or []),
        calibrate=calibrate,
        fit_axes=fit_axes,
    )
    if resume:
        go_on(out, options)
    elif data is None:
        raise ConfigError("--data is missing: give a datalist or a folder of volumes")
    elif bundle is not None:
        train(bundle, data, out, options)
    elif plan is not None:
        raise ConfigError(f"--bundle is missing: the first lines of {plan} name it")
    else:
        _train_as_planned(data, out, options)
    if leads():
        _tell(out, json)


def _first_weights(
    bundle: Path | str | None, pretrained: str | None, none: bool, *, own_network: bool
) -> Path | None:
    """Return the file of weights that a training begins with; None for random ones."""
    from cellseg3d.bundle.shipped import find_bundle, weights_file, weights_of
    from cellseg3d.cli.main import leads

    if pretrained is not None:
        if none:
            message = "--pretrained goes with neither --from-scratch nor --resume"
            raise ConfigError(message)
        return weights_of(pretrained)
    if bundle is None or none:
        return None
    file = weights_file(find_bundle(bundle))
    if not file.is_file():
        return None
    if own_network:
        said = f"begins with random weights: those of {bundle} are for its own network"
    else:
        said = f"begins with the weights of {bundle}; --from-scratch does not"
    if leads():
        print(said)
    return None if own_network else file


def _train_as_planned(data: Path, out: Path, options: "TrainOptions") -> None:
    """Train what `cellseg3d plan` would begin with; keep its reasons in the run."""
    from dataclasses import replace

    from cellseg3d.cli.main import leads
    from cellseg3d.core.atomic import atomic_write
    from cellseg3d.doctor.examine import examine_before_training
    from cellseg3d.planning.files import plan_data
    from cellseg3d.runs.folder import check_free
    from cellseg3d.training.train import train

    check_free(out)  # before minutes of planning
    examine_before_training(data)  # a plan of broken files would hide what is broken
    plan, text = plan_data(data, options.minutes)
    said = ", ".join(
        f"{key.rsplit('::', maxsplit=1)[-1]} {value}"
        for key, value in plan.settings.items()
    )
    if leads():
        print(f"plan: {plan.kind}, {plan.bundle}: {said}; reasons: {out / PLAN}")

    def keep(_parser: object) -> None:
        atomic_write(out / PLAN, lambda new: _put(new, text))

    train(plan.bundle, data, out, replace(options, plan=plan.settings), watch=keep)


def _tell(out: Path, target: Path | None) -> None:
    """Print how a training ended; its warnings were logged as they came."""
    import json

    from cellseg3d.core.atomic import atomic_write
    from cellseg3d.runs.record import NAME

    record = json.loads((out / NAME).read_text(encoding="utf-8"))
    score = record.get("best_score")
    print(f"trained {record['iteration']} steps in {record['cost']['wall_s']:.0f} s")
    best = best_row(record)
    if best is not None:
        _show(best)
    if score is not None:
        print(f"mean Dice on the validation volumes: {score:.4f}")
    if "sentence" in (record.get("fusion") or {}):
        print(f"sources: {record['fusion']['sentence']}")
    found = record.get("calibration") or {}
    if found.get("halo_error") is not None:
        halo, apart = max(found["halo"]), found["halo_error"]
        print(f"halo of {halo} voxels: seams change a probability by {apart:.2g}")
    if target is not None:
        facts = {"run": str(out), **record, "validation": best}
        text = json.dumps(facts, indent=1) + "\n"
        atomic_write(target, lambda new: _put(new, text))
    print(f"next: cellseg3d predict VOLUME --bundle {out} --out LABELS")


def best_row(record: "Mapping[str, Any]") -> "Mapping[str, Any] | None":
    """Return the row of a record's history that scored best; None without scores."""
    for row in record.get("history", []):
        if "score" in row and row["iteration"] == record.get("best_iteration"):
            return dict(row)
    return None


def _show(row: "Mapping[str, Any]") -> None:
    """Print Dice of every class in every validation volume, and recall by size."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # a log file: nothing is cut off
        console = Console(width=160)
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


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

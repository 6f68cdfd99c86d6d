"""`cellseg3d train`: a bundle and labelled volumes in, a trained bundle out."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import Annotated

import typer


def command(
    *,
    out: Annotated[
        Path, typer.Option("--out", help="Run folder to make; it becomes a bundle.")
    ],
    bundle: Annotated[
        str,
        typer.Option(
            "--bundle",
            help="Network to train: a name (cell_tomo_unet2d, cell_tomo_unet25d, "
            "cell_tomo_unet3d) or a bundle's folder.",
        ),
    ] = "cell_tomo_unet3d",
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
        str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="auto, float32 or bfloat16 (half the work)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in --out.")
    ] = False,
    pretrained: Annotated[
        Path | None,
        typer.Option("--pretrained", help="Weights to begin with (.safetensors, .pt)."),
    ] = None,
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
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train a 2D, 2.5D or 3D network on labelled volumes.

    Two labelled volumes are enough to begin with: one trains, one validates. The
    run folder is a bundle of its own: predict with `--bundle RUN`.
    """
    import json

    from cellseg3d.bundle.compose import parse_setting, read_config
    from cellseg3d.core.errors import ConfigError
    from cellseg3d.engines.run_folder import TrainOptions
    from cellseg3d.engines.run_record import NAME
    from cellseg3d.engines.train import resume as go_on
    from cellseg3d.engines.train import train

    options = TrainOptions(
        fold=fold,
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        workers=workers,
        device=device,
        precision=precision,
        target=target,
        pretrained=pretrained,
        progress=not quiet,
        plan={} if plan is None else read_config(plan),
        settings=dict(parse_setting(text) for text in settings or []),
        calibrate=calibrate,
    )
    if resume:
        go_on(out, options)
    elif data is None:
        raise ConfigError("--data is missing: give a datalist or a folder of volumes")
    else:
        train(bundle, data, out, options)
    record = json.loads((out / NAME).read_text(encoding="utf-8"))
    for warning in record.get("warnings", []):
        print(f"note: {warning}")
    score = record.get("best_score")
    print(f"trained {record['iteration']} steps in {record['cost']['wall_s']:.0f} s")
    if score is not None:
        print(f"mean Dice on the validation volumes: {score:.4f}")
    found = record.get("calibration") or {}
    for note in found.get("notes", []):
        print(f"note: {note}")
    if found.get("halo_error") is not None:
        halo, apart = max(found["halo"]), found["halo_error"]
        print(f"halo of {halo} voxels: seams change a probability by {apart:.2g}")
    print(f"next: cellseg3d predict VOLUME --bundle {out} --out LABELS")

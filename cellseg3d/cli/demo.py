"""``cellseg3d demo``: simulate, train, predict and score, one verb after another."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import Annotated

import typer

UNSEEN_SEED = 1000
# The settings that learnt most within minutes: a batch is one whole cell, instance
# normalisation evens out that each cell absorbs a little differently, and the network
# has half as many convolutions as the bundle's.
QUICK = {
    "network_def::norm": "instance",
    "network_def::channels": "[16,32,64,128]",
    "network_def::num_res_units": "1",
    "train::dataloader::batch_size": "1",
    "optimizer::lr": "0.004",
}


def command(
    out: Annotated[
        Path, typer.Option(help="Write everything into this new folder.")
    ] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Train for this many minutes.")] = 3.6,
    shape: Annotated[
        int, typer.Option(help="Make tomograms of this many voxels a side.")
    ] = 80,
    n: Annotated[
        int, typer.Option("--n", help="Simulate this many tomograms to train on.")
    ] = 96,
    seed: Annotated[
        int, typer.Option(help="Two runs with the same seed simulate the same cells.")
    ] = 0,
) -> None:
    """Simulate cells, train a 3D network and segment a new cell.

    The training sees simulated tomograms; the network then segments a tomogram that it
    has never seen, and the result is scored. Every step is a command that you can type
    yourself, and it is shown before it runs.
    """
    from cellseg3d.core.errors import InputError

    if out.exists() and any(out.iterdir()):
        message = f"{out}: is not empty; choose another folder with --out, or remove it"
        raise InputError(message)
    side = str(shape)
    settings = {"spec::patch_shape": f"[{side},{side},{side}]", **QUICK}
    training, unseen, run = out / "training", out / "unseen", out / "run"
    simulate = ["simulate", "--shape", side, "--n"]
    _type(*simulate, str(n), "--seed", str(seed), "--out", str(training))
    unseen_seed = str(seed + UNSEEN_SEED)
    _type(*simulate, "1", "--seed", unseen_seed, "--out", str(unseen))
    _type(
        *("train", "--bundle", "cell_tomo_unet3d", "--from-scratch"),
        *("--data", str(training)),
        *("--fold", "none", "--minutes", str(minutes), "--seed", str(seed)),
        *(word for item in settings.items() for word in ("--set", "=".join(item))),
        *("--out", str(run)),
    )
    tomogram, truth = _case(unseen)
    labels = out / "labels"
    _type("predict", str(tomogram), "--bundle", str(run), "--out", str(labels))
    prediction = next(labels.glob(f"{tomogram.stem}_labels.*"))
    _type(
        *("evaluate", str(prediction), "--datalist", str(unseen)),
        *("--json", str(out / "evaluation.json")),
    )
    _write_scores(out / "evaluation.json", out / "scores.json")
    for volume, name in ((tomogram, "tomogram"), (prediction, "labels")):
        _type("inspect", str(volume), "--png", str(out / f"{name}.png"))
    _type(
        *("report", str(run), "--prediction", str(prediction), "--truth", str(truth)),
        *("--image", str(tomogram), "--datalist", str(unseen / "datalist.json")),
        *("--title", "A simulated cell, segmented", "--out", str(out / "index.html")),
    )
    print(f"\nLook at {out / 'index.html'} (scores: {out / 'scores.json'})")


def _type(*words: str) -> None:
    """Show a command as a user would type it, run it, and stop the demo if it fails."""
    from cellseg3d.cli.main import run

    print(f"\n$ cellseg3d {' '.join(words)}", flush=True)
    code = run(list(words))
    if code:
        raise typer.Exit(code)


def _write_scores(evaluation: Path, scores: Path) -> None:
    """Write the scores again, with the foreground under the name ``cell``."""
    import json

    values = json.loads(evaluation.read_text(encoding="utf-8"))
    for classes in (*values["volumes"].values(), values["mean"]):
        classes["cell"] = classes.pop("foreground")
    scores.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _case(folder: Path) -> tuple[Path, Path]:
    """Return the image and the label of a data set with one case."""
    from cellseg3d.datasets.datalist import load_datalist

    case = load_datalist(folder).cases[0]
    return Path(case.image), Path(str(case.label))

"""``cellseg3d demo``: use shipped weights, then fine-tune them to other tomograms."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

BUNDLE = "cell_tomo_unet3d"
UNSEEN_SEED = 1000
# The other microscope takes half of the tilts, with a thirtieth of the photons. Its
# tomograms are noisier than all that the shipped weights were trained on.
OTHER_SEED = 2000
OTHER = ("--photons", "100", "--tilt-step", "4")
CORRECTED = 5
SHOWN = ("cell", "nucleus", "mitochondrion")


def command(
    out: Annotated[
        Path, typer.Option(help="Write everything into this new folder.")
    ] = Path("demo"),
    n: Annotated[
        int, typer.Option("--n", min=1, help="Label this many unseen cells.")
    ] = 6,
    steps: Annotated[
        int, typer.Option(min=1, help="Fine-tune for this many steps.")
    ] = 80,
    shape: Annotated[
        int, typer.Option(min=16, help="Make tomograms of this many voxels a side.")
    ] = 80,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Draw all random numbers from this seed."),
    ] = 0,
) -> None:
    """Label simulated cells, then fine-tune to noisier ones.

    The cells are labelled with shipped weights. Then a few labelled slices of a noisier
    cell fine-tune the network, and it is scored before and after on another such cell.
    The true labels are known, since the tomograms are simulated. Each step is a command
    that you can type yourself, and it is shown before it runs.
    """
    from cellseg3d.core.errors import InputError
    from cellseg3d.datasets.datalist import load_datalist

    if out.exists() and any(out.iterdir()):
        message = f"{out}: is not empty; choose another folder with --out, or remove it"
        raise InputError(message)
    unseen, other, run = out / "unseen", out / "noisier", out / "run"
    simulate = ["simulate", "--shape", str(shape), "--n"]

    _say(f"1. Label {n} cells that the shipped weights never saw")
    _type(*simulate, str(n), "--seed", str(seed + UNSEEN_SEED), "--out", str(unseen))
    cells = [case.image for case in load_datalist(unseen).cases]
    scores = {"unseen": _label_and_score(cells, BUNDLE, unseen, out / "labels")}

    _say("2. Label a cell of another microscope: few photons, few tilts")
    second = str(seed + OTHER_SEED)
    _type(*simulate, "2", "--seed", second, *OTHER, "--out", str(other))
    cell, _ = _case(other, 1)
    scores["before"] = _label_and_score([cell], BUNDLE, other, out / "before")

    _say(f"3. Correct {CORRECTED} slices of its neighbour, and train on them")
    review = out / "review"
    neighbour, truth = _case(other, 0)
    words = ["--bundle", BUNDLE, "--n", str(CORRECTED), "--out", str(review)]
    _type("review", neighbour, *words)
    _correct(review, truth)
    _type("review", "merge", str(review))
    merged = review / "merged"
    settings = {
        "train::dataset::samples": str(steps),
        "train::dataloader::batch_size": "1",
        "spec::patch_shape": f"[{min(48, shape)},{shape},{shape}]",
        "optimizer::lr": "0.0005",
    }
    _type(
        *("train", "--bundle", BUNDLE, "--data", str(merged), "--fold", "none"),
        *("--epochs", "1", "--seed", str(seed), "--no-calibrate"),
        *(word for item in settings.items() for word in ("--set", "=".join(item))),
        *("--out", str(run)),
    )
    scores["after"] = _label_and_score([cell], str(run), other, out / "after")
    _write(scores, out / "scores.json")
    _tell(scores, n)
    print(
        f"\nLook at {out / 'labels.html'}, {out / 'before.html'} and "
        f"{out / 'after.html'}; the scores are in {out / 'scores.json'}"
    )


def _label_and_score(
    cells: list[str], bundle: str, data: Path, labels: Path
) -> "Mapping[str, float]":
    """Label cells, score them and write a page about them; return the mean Dice."""
    import json

    _type("predict", *cells, "--bundle", bundle, "--out", str(labels))
    evaluation = labels / "evaluation.json"
    _type(
        *("evaluate", str(labels), "--datalist", str(data), "--json", str(evaluation))
    )
    page = labels.with_suffix(".html")
    title = f"Simulated cells, labelled by {bundle}"
    _type(
        *("report", *([bundle] if Path(bundle).is_dir() else [])),
        *("--prediction", str(labels), "--datalist", str(data)),
        *("--title", title, "--out", str(page)),
    )
    mean = json.loads(evaluation.read_text(encoding="utf-8"))["mean"]
    names = {"foreground" if name == "cell" else name: name for name in SHOWN}
    return {name: mean[key]["dice"] for key, name in names.items()}


def _case(data: Path, number: int) -> tuple[str, str]:
    """Return the image and the true labels of a case of a data set."""
    from cellseg3d.datasets.datalist import load_datalist

    case = load_datalist(data).cases[number]
    return case.image, str(case.label)


def _correct(review: Path, truth: str) -> None:
    """Put the true labels into the slices of a review, as a person would draw them."""
    from cellseg3d.datasets.labels import map_labels
    from cellseg3d.io.registry import read_labels, write_labels
    from cellseg3d.review.pieces import load_review
    from cellseg3d.simulate.components import CLASSES, LABEL_MAP

    whole = read_labels(truth)
    classes = map_labels(whole.read(), LABEL_MAP, len(CLASSES), truth)
    for piece in load_review(review).pieces:
        right = piece.flat(classes[piece.roi.slices])[None]
        write_labels(piece.labels_file(review), whole.with_array(right))
    print(f"\n{review}: put the true labels into every slice; a person would draw them")


def _tell(scores: "Mapping[str, Mapping[str, float]]", n: int) -> None:
    """Print one row of scores for each of the three labellings."""
    rows = {
        "unseen": f"{n} unseen cells, mean",
        "before": "noisier cell, before",
        "after": "noisier cell, after",
    }
    print(f"\n{'Dice':<26}" + "".join(f"{name:>15}" for name in SHOWN))
    for key, words in rows.items():
        print(f"{words:<26}" + "".join(f"{scores[key][name]:15.3f}" for name in SHOWN))


def _say(what: str) -> None:
    print(f"\n{what}", flush=True)


def _type(*words: str) -> None:
    """Show a command as a user would type it, run it, and stop the demo if it fails."""
    import shlex

    from cellseg3d.cli.main import run

    print(f"\n$ cellseg3d {shlex.join(words)}", flush=True)
    code = run(list(words))
    if code:
        raise typer.Exit(code)


def _write(scores: "Mapping[str, Mapping[str, float]]", path: Path) -> None:
    import json

    from cellseg3d.core.atomic import write_text

    write_text(path, json.dumps({"dice": scores}, indent=2) + "\n")

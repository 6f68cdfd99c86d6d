"""Measure the recipes of docs/recipes.md by cross-validation.

    python benchmarks/recipes.py --data "$CELLSEG3D_DATA" --out runs/recipes
    python benchmarks/recipes.py --data ... --out ... --only mes --minutes 20
    python benchmarks/recipes.py --data ... --out ... --only sxt_shallow --folds 1
    OMP_NUM_THREADS=1 python benchmarks/recipes.py --data ... --out ... --clock cpu

Every case is predicted once, by a network that was not trained on it. The held-out
cases of a fold are marked for testing, so they choose neither weights nor thresholds.
Recipes for which there are no real data are measured on simulated cells. If the script
is stopped, calling it again continues. Variations of a recipe run only when --only
names them.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recipe_data import (
    RECIPES,
    VARIATIONS,
    Measure,
    Recipe,
    folds_of,
    write_datalist,
    write_fold,
)

from cellseg3d.benchmark.process import run_verb
from cellseg3d.bundle.model import TrainedModel, load_model
from cellseg3d.core.clock import CLOCKS
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.labels import class_labels
from cellseg3d.datasets.splits import Fold
from cellseg3d.datasets.volumes import read_case_label
from cellseg3d.io.registry import read_labels, read_volume, write_labels
from cellseg3d.metrics.calibration import roc_curve
from cellseg3d.metrics.contingency import count_slices
from cellseg3d.metrics.overlap import mean_defined, median_defined, voxel_accuracy
from cellseg3d.objects.label import label_objects
from cellseg3d.objects.options import ObjectOptions
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.runs.record import NAME as RECORD
from cellseg3d.scoring.evaluate import Evaluation, ScoreOptions, evaluate_files

Row = dict[str, Any]
COLUMNS = (
    "folds",
    "minutes",
    "clock",
    "accuracy",
    "jaccard",
    "dice",
    "median_image_accuracy",
    "object_precision",
    "object_recall",
    "n_true",
    "n_found",
    "predict_s",
    "predict_cpu_s",
)
KNOWN = {**RECIPES, **VARIATIONS}
# The percentile of the training objects' volumes that counts as the smallest object.
# It is higher for components, because a stack's borders cut many of them.
SMALLEST = {"instances": 1.0, "components": 10.0}


def main() -> None:
    """Run the recipes that are asked for, print one table and write one JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=sorted(KNOWN), default=[])
    parser.add_argument("--minutes", type=float, default=10, help="per training")
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="clock that counts minutes: cpu is processor time, for a busy machine",
    )
    parser.add_argument("--folds", type=int, help="run only the first N folds")
    parser.add_argument("--cells", type=int, default=6, help="simulated cells, 6 or up")
    parser.add_argument("--side", type=int, default=160, help="voxels of a cell's side")
    parser.add_argument("--pretrained", type=Path, help="torchvision's VGG-16 file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE for trainings")
    options = parser.parse_args()
    rows = []
    for name in options.only or RECIPES:
        rows += measure(name, KNOWN[name], options)
        print_table(rows)
    path = options.out / "recipes.json"
    known = json.loads(path.read_text()) if path.is_file() else []
    done = {row["recipe"] for row in rows}
    kept = [row for row in known if row["recipe"] not in done]
    path.write_text(json.dumps(kept + rounded(rows), indent=1) + "\n")
    print(f"{path}: {len(kept + rows)} rows")


def measure(name: str, recipe: Recipe, options: argparse.Namespace) -> list[Row]:
    """Train and predict every fold of a recipe; return a row for each measure."""
    out = options.out / name
    base = write_datalist(recipe, options.data, out, options.cells, options.side)
    folds = folds_of(recipe, base)[: options.folds]
    costs = [
        run_fold(recipe, base, fold, out / f"fold{number}", options)
        for number, fold in enumerate(folds)
    ]
    for folder in ("labels", "objects"):
        (out / folder).mkdir(exist_ok=True)
        for number in range(len(folds)):
            for file in (out / f"fold{number}" / folder).glob("*.tif"):
                (out / folder / file.name).write_bytes(file.read_bytes())
    facts = {
        "recipe": name,
        "bundle": recipe.bundle,
        "data": recipe.task,
        "folds": len(folds),
        "minutes": options.minutes,
        "clock": options.clock,
        "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        "seed": options.seed,
        "settings": [*recipe.settings, *options.set],
        "trained": recipe.trained or name,
        "pretrained": str(options.pretrained) if options.pretrained else None,
        "training": costs,
    }
    return [{**facts, **scores(recipe, each, base, out)} for each in recipe.measures]


def run_fold(
    recipe: Recipe, base: Path, fold: Fold, out: Path, options: argparse.Namespace
) -> Row:
    """Train on one side of a fold and label the other, unless it is done."""
    record = out / "fold.json"
    if record.is_file():
        return dict(json.loads(record.read_text()))
    out.mkdir(parents=True, exist_ok=True)
    held = [case.name for case in fold.validation]
    listed = write_fold(base, held, out / "datalist.json")
    run = out / "run"
    facts: Row = {"held_out": held}
    if recipe.trained:
        run = out.parents[1] / recipe.trained / out.name / "run"
    else:
        print(f"{out}: training on {len(fold.training)}, {len(held)} held out")
        facts |= train(recipe, listed, run, options)
    facts |= predict(recipe, load_model(run), load_datalist(listed), fold, out)
    record.write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def train(recipe: Recipe, listed: Path, run: Path, options: argparse.Namespace) -> Row:
    """Train, or continue a training, and return its cost."""
    # Slices fit one window or the halo is the network's reach, so none is calibrated.
    words = ["train", "--out", str(run), "--quiet", "--no-calibrate"]
    if (run / "checkpoints" / "last.pt").is_file():
        words += ["--resume"]
    else:
        # A run without a checkpoint cannot be continued.
        shutil.rmtree(run, ignore_errors=True)
        words += ["--bundle", recipe.bundle, "--data", str(listed), "--fold", "none"]
        words += ["--minutes", str(options.minutes), "--seed", str(options.seed)]
        words += ["--set", f"lr_scheduler::clock={options.clock}"]
        if options.pretrained and "cascade" in recipe.bundle:
            words += ["--pretrained", str(options.pretrained)]
        else:
            words += ["--from-scratch"]
        for setting in (*recipe.settings, *options.set):
            words += ["--set", setting]
    cost = run_verb(words, run.parent / "train.log")
    steps = json.loads((run / RECORD).read_text())["iteration"]
    return {
        "elapsed_s": cost.elapsed_s,
        "cpu_s": cost.cpu_s,
        "peak_gib": cost.peak_gib,
        "steps": steps,
    }


def predict(
    recipe: Recipe, model: TrainedModel, cases: Datalist, fold: Fold, out: Path
) -> Row:
    """Write the labels, and the objects if wanted, of the held-out cases."""
    threshold = 0.5
    views = SegmentOptions(axes=recipe.axes, tta=recipe.flips)
    if recipe.roc:
        # The training images choose the threshold, so held-out images stay unseen.
        threshold = roc_threshold(model, cases, fold.training)
    times, work, counts = [], [], {}
    least = smallest_object(recipe, cases, fold.training)
    splitting = ObjectOptions(
        method="components" if recipe.objects == "components" else "watershed",
        min_volume_um3=least,
    )
    for folder in ("labels", "objects"):
        (out / folder).mkdir(exist_ok=True)
    for case in fold.validation:
        volume = read_volume(case.image)
        begin, spent = time.perf_counter(), time.process_time()
        if recipe.roc:
            found = (probs_of(model, case) >= threshold).astype(np.uint8)
        else:
            found = segment(volume, model, views).labels.read()
        times.append(time.perf_counter() - begin)
        work.append(time.process_time() - spent)
        labels = Volume(found, case.spacing or volume.spacing)
        if recipe.objects == "components":
            ids = label_objects(labels, options=splitting).volume.read()
            labels = Volume(found * (ids > 0).astype(np.uint8), labels.spacing)
        write_labels(out / "labels" / f"{case.name}.tif", labels)
        if recipe.objects == "instances":
            place = out / "objects" / f"{case.name}.tif"
            objects = label_objects(labels, options=splitting, out=place)
            counts[case.name] = sizes(
                true_volumes(recipe, case, cases), objects.volumes
            )
    return {
        "threshold": threshold,
        "min_volume": least,
        "predict_s": times,
        # Other programs on the machine do not lengthen CPU time.
        "predict_cpu_s": work,
        "objects": counts,
    }


def roc_threshold(
    model: TrainedModel, cases: Datalist, training: Sequence[Case]
) -> float:
    """Return the threshold at the point of the ROC curve whose Dice is largest.

    The point where the curve's two rates differ most makes objects too large if most of
    the image is background.
    """
    probs = [probs_of(model, case).ravel() for case in training]
    truth = [truth_of(case, cases).ravel() for case in training]
    return roc_curve(np.concatenate(probs), np.concatenate(truth), 1).choose("dice")


def probs_of(model: TrainedModel, case: Case) -> NDArray[np.float32]:
    """Return the probability (Z, Y, X) of class 1."""
    found = segment(read_volume(case.image), model, SegmentOptions(probs=True))
    if found.probs is None:
        raise RuntimeError(case.name)
    return found.probs[1]


def truth_of(case: Case, cases: Datalist) -> NDArray[np.uint8]:
    """Return the true classes (Z, Y, X) of a case."""
    raw = read_case_label(case, cases)
    return class_labels(raw.read(), cases, raw.name)


def smallest_object(recipe: Recipe, cases: Datalist, training: Sequence[Case]) -> float:
    """Return half of the volume that nearly all of the training objects reach."""
    if not recipe.objects:
        return 0.0
    every = np.concatenate([true_volumes(recipe, case, cases) for case in training])
    return float(np.percentile(every, SMALLEST[recipe.objects]) / 2)


def true_volumes(recipe: Recipe, case: Case, cases: Datalist) -> NDArray[np.float64]:
    """Return the volume of each true object of a case.

    Volumes are in um^3, or in voxels if the spacing is unknown.
    """
    if recipe.objects == "components":
        truth = truth_of(case, cases)
        return label_objects(truth, case.spacing, "components").volumes
    voxels = np.bincount(read_case_label(case, cases).read().ravel())[1:]
    voxel = case.spacing.voxel_volume_um3 if case.spacing else 1.0
    return np.asarray(voxels[voxels > 0] * voxel, np.float64)


def sizes(true: NDArray[np.float64], found: NDArray[np.float64]) -> Row:
    """Return the numbers and the median volumes of true and found objects."""
    return {
        "true": len(true),
        "found": len(found),
        "median_true": float(np.median(true)) if len(true) else None,
        "median_found": float(np.median(found)) if len(found) else None,
    }


def scores(recipe: Recipe, wanted: Measure, base: Path, out: Path) -> Row:
    """Return the mean scores over all predicted cases."""
    rename = dict(wanted.rename)
    evaluation = evaluate_files(
        str(out / "labels"),
        datalist=str(base),
        options=ScoreOptions(
            classes=("background", wanted.name),
            truth_map=rename,
            prediction_map=rename,
            components=recipe.objects == "components",
        ),
    )
    rows = [each.classes[wanted.name] for each in evaluation.scored]
    row: Row = {
        "measure": wanted.name,
        "published": wanted.published,
        "accuracy": mean_defined([each.accuracy for each in evaluation.scored])[0],
        "median_image_accuracy": image_accuracy(rename, base, out),
        **{
            key: mean_defined([float(each[key]) for each in rows])[0]
            for key in ("jaccard", "dice")
        },
        "cases": {
            pair.name: {"accuracy": each.accuracy, **each.classes[wanted.name]}
            for pair, each in zip(evaluation.pairs, evaluation.scored, strict=True)
        },
    }
    timed = [json.loads(file.read_text()) for file in out.glob("fold*/fold.json")]
    for key in ("predict_s", "predict_cpu_s"):
        row[key] = mean_defined([s for each in timed for s in each.get(key, [])])[0]
    if recipe.objects == "instances":
        ids = ScoreOptions(ids=True)
        evaluation = evaluate_files(
            str(out / "objects"), datalist=str(base), options=ids
        )
    return row | (object_scores(evaluation) if recipe.objects else {})


def object_scores(evaluation: Evaluation) -> Row:
    """Return precision, recall and counts of objects in all cases together."""
    tables = [next(iter(each.objects.values())) for each in evaluation.scored]
    total = {
        key: sum(int(table[key]) for table in tables)
        for key in ("tp", "fp", "fn", "n_true", "n_predicted", "splits", "merges")
    }
    return {
        "object_precision": total["tp"] / max(1, total["tp"] + total["fp"]),
        "object_recall": total["tp"] / max(1, total["tp"] + total["fn"]),
        "n_true": total["n_true"],
        "n_found": total["n_predicted"],
        "splits": total["splits"],
        "merges": total["merges"],
    }


def image_accuracy(rename: dict[int, int], base: Path, out: Path) -> float:
    """Return the median over all slices of all cases of the voxel accuracy."""
    cases, values = load_datalist(base), []
    for case in cases.cases:
        file = out / "labels" / f"{case.name}.tif"
        if file.is_file():
            tables = count_slices(read_labels(file).array, truth_of(case, cases))
            values += [voxel_accuracy(each.renamed(rename, rename)) for each in tables]
    return median_defined(values)


def rounded(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return the value with every number rounded to five decimals."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 5) if isinstance(value, float) else value


def print_table(rows: list[Row]) -> None:
    """Print one line for each row."""
    print("\n" + "recipe".ljust(24) + " ".join(map(_wide, COLUMNS, COLUMNS)))
    for row in rows:
        cells = [row.get(column) for column in COLUMNS]
        texts = [
            "-" if c is None else (f"{c:.4g}" if isinstance(c, float) else str(c))
            for c in cells
        ]
        name = f"{row['recipe']} {row['measure']}"
        print(name[:23].ljust(24) + " ".join(map(_wide, texts, COLUMNS)))
    for row in rows:
        if row["published"]:
            print(f"{row['recipe']} {row['measure']}: original {row['published']}")


def _wide(text: str, column: str) -> str:
    return text.rjust(max(9, len(column)))


if __name__ == "__main__":
    main()

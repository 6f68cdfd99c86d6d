"""Compare the pieces that `cellseg3d review` picks with random ones.

    python benchmarks/review.py --data "$CELLSEG3D_DATA" --out runs/review

Shipped weights are fine-tuned on two real data sets that they never saw, first on four
random pieces of slices (quarters of a slice of 100 x 100 pixels, or squares of 128
pixels of an image of 1024 x 1024). Then four pieces a round are corrected with the true
labels: those that `review` picks from the network's predictions, or random ones. After
each round the network continues from its weights and trains on all pieces so far, for
the same number of steps with picked and with random pieces. Two scores are computed: on
a volume from which no piece comes, and on the reviewed volumes without any of the
pieces. A benchmark that was stopped continues when it is started again. `--record`
writes benchmarks/records/review.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellseg3d import TrainOptions, load_model, train
from cellseg3d.bundle.shipped import find_bundle, weights_file
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.labels import IGNORE, class_labels
from cellseg3d.io.fingerprint import fingerprint
from cellseg3d.io.registry import open_volume, read_labels, write_labels
from cellseg3d.metrics.contingency import Contingency, count_slices, total
from cellseg3d.metrics.overlap import class_counts
from cellseg3d.prediction.segment import segment
from cellseg3d.review.choose import TileMeans
from cellseg3d.review.merge import merge_reviews
from cellseg3d.review.pieces import MARKS, PREDICTED, Piece, Review, load_review
from cellseg3d.review.prepare import ReviewOptions, prepare_review

RECORD = Path(__file__).parent / "records" / "review.json"
BUNDLE = "nuclei_unet2d"
# The volume that no piece comes from, and the longest side of a piece.
TASKS = {"ovule_nuclei": ("1136_mini", 50), "gowt1": ("t39", 128)}
EACH = 4
ARMS = ("picked", "random")
SETTINGS = {
    "spec::patch_shape": [96, 96],
    "train::dataloader::batch_size": 4,
    "optimizer::lr": 0.0005,
}


def main() -> None:
    """Run the rounds that have no score yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lists = datalists(options.data, options.out / "datalists")
    rows = []
    for task in options.tasks:
        for seed in range(options.seeds):
            place = options.out / f"{task}_{seed}"
            rows += curves(load_datalist(lists / f"{task}.json"), seed, place, options)
    summary = summarise(rows)
    for line in summary:
        print(json.dumps(line))
    if options.record:
        write_record(rows, summary, options)


def datalists(data: Path, out: Path) -> Path:
    """Write the datalists of the real data sets once; return their folder."""
    if not out.is_dir():
        script = Path(__file__).with_name("datalists.py")
        words = ["--data", str(data), "--out", str(out), "--test"]
        words += [test for test, _ in TASKS.values()]
        subprocess.run([sys.executable, str(script), *words], check=True)
    return out


def curves(
    datalist: Datalist, seed: int, place: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the Dice with picked and random pieces after each round of one seed."""
    pool = [case for case in datalist.cases if case.split != "test"]
    first = place / "random_0"
    if not first.is_dir():
        annotate(random_review(pool, datalist, seed, 0, first), pool, datalist)
    base = place / "base"
    learn(find_bundle(BUNDLE), [first], base, seed, options)
    runs = {(arm, 0): base for arm in ARMS}
    for arm in ARMS:
        reviews, run = [first], base
        for number in range(1, options.rounds + 1):
            review = place / f"{arm}_{number}"
            if arm == "random" and not review.is_dir():
                annotate(
                    random_review(pool, datalist, seed, number, review), pool, datalist
                )
            elif not (review / "annotated").is_file():
                found = prepare_review(
                    [case.image for case in pool],
                    [load_model(run)],
                    review,
                    ReviewOptions(EACH, TASKS[datalist.name][1]),
                    before=reviews,
                )
                annotate(found, pool, datalist)
            reviews.append(review)
            after = place / f"run_{arm}_{number}"
            learn(run, reviews, after, seed, options)
            run = runs[arm, number] = after
    rows = []
    known = [review for review in place.iterdir() if (review / MARKS).is_file()]
    for (arm, number), run in runs.items():
        unseen, rest = scores(datalist, run, known)
        rows.append(
            {
                "task": datalist.name,
                "seed": seed,
                "arm": arm,
                "reviewed": EACH * number,
                "dice": {"unseen volume": unseen, "reviewed volumes": rest},
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def random_review(
    pool: Sequence[Case], datalist: Datalist, seed: int, number: int, out: Path
) -> Review:
    """Write a review of random pieces, without any prediction."""
    tiles = []
    for case in pool:
        shape = open_volume(case.image).shape
        means = TileMeans(shape, "z", TASKS[datalist.name][1], shape)
        name = str(Path(case.image).absolute())
        tiles += [(name, means.roi(index)) for index in np.ndindex(*means.tiles)]
    # One order for all rounds, so that none repeats a piece of another.
    order = np.random.default_rng(seed).permutation(len(tiles))
    (out / PREDICTED).mkdir(parents=True)
    pieces = [
        Piece(f"{index:03d}", tiles[index][0], "z", tiles[index][1], 0.0)
        for index in order[EACH * number : EACH * (number + 1)].tolist()
    ]
    names = {piece.volume for piece in pieces}
    prints = {name: fingerprint(name) for name in names}
    review = Review(out, datalist.classes, None, prints, tuple(pieces), ())
    review.save()
    for piece in pieces:
        truth = open_volume(piece.volume)
        empty = np.zeros(piece.flat(np.empty(piece.roi.shape)).shape, np.uint8)[None]
        write_labels(piece.predicted_file(out), truth.with_array(empty))
    return review


def annotate(review: Review, pool: Sequence[Case], datalist: Datalist) -> None:
    """Put the true labels into every piece and mark all as seen."""
    labels = {}
    for case in pool:
        raw = read_labels(str(case.label))
        values = class_labels(raw.read(), datalist, raw.name)
        labels[str(Path(case.image).absolute())] = raw.with_array(values)
    for piece in review.pieces:
        whole = labels[piece.volume]
        right = piece.flat(whole.read(piece.roi))[None]
        write_labels(piece.labels_file(review.folder), whole.with_array(right))
    path = review.folder / MARKS
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *(f"{line}yes" for line in lines)]) + "\n")
    (review.folder / "annotated").touch()


def learn(
    start: Path,
    reviews: Sequence[Path],
    run: Path,
    seed: int,
    options: argparse.Namespace,
) -> None:
    """Train on all pieces of some reviews, from a bundle's or a run's weights."""
    if weights_file(run).is_file():
        return
    merged = run.with_name(f"{run.name}_data")
    if not merged.is_dir():
        merge_reviews(reviews, merged)
    samples = options.steps * int(SETTINGS["train::dataloader::batch_size"])
    wanted = TrainOptions(
        fold="none",
        epochs=1,
        seed=seed,
        target="classes",
        pretrained=weights_file(start),
        progress=False,
        settings={**SETTINGS, "train::dataset::samples": samples},
        calibrate=False,
    )
    train(start, merged, run, wanted)


def scores(
    datalist: Datalist, run: Path, reviews: Sequence[Path]
) -> tuple[float, float]:
    """Return the Dice of a run on the unseen volume, and on the rest of the others."""
    pieces = [piece for review in reviews for piece in load_review(review).pieces]
    model = load_model(run)
    tables: dict[bool, list[Contingency]] = {True: [], False: []}
    for case in datalist.cases:
        raw = read_labels(str(case.label))
        truth = class_labels(raw.read(), datalist, raw.name).copy()
        for piece in pieces:
            if piece.volume == str(Path(case.image).absolute()):
                truth[piece.roi.slices] = IGNORE
        kept = run / f"{case.name}.npz"
        if not kept.is_file():
            volume = open_volume(case.image, spacing=case.spacing)
            np.savez_compressed(kept, labels=segment(volume, model).labels.read())
        found = np.load(kept)["labels"]
        tables[case.split == "test"].append(total(count_slices(found, truth)))
    unseen, rest = (
        float(class_counts([total(tables[test])], 1)[0].dice) for test in (True, False)
    )
    return unseen, rest


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means over seeds, and the gain in Dice for each reviewed piece."""
    keys = dict.fromkeys(
        (row["task"], score, row["arm"], row["reviewed"])
        for row in rows
        for score in row["dice"]
    )
    found = []
    for task, score, arm, reviewed in keys:
        values, base = (
            [
                row["dice"][score]
                for row in rows
                if (row["task"], row["arm"], row["reviewed"]) == (task, arm, count)
            ]
            for count in (reviewed, 0)
        )
        gain = statistics.mean(values) - statistics.mean(base)
        found.append(
            {
                "task": task,
                "score": score,
                "arm": arm,
                "reviewed": reviewed,
                "dice": round(statistics.mean(values), 4),
                "seeds": [round(value, 4) for value in values],
                "gain_per_piece": round(gain / max(1, reviewed), 5),
            }
        )
    return found


def write_record(
    rows: Sequence[dict[str, Any]],
    summary: Sequence[dict[str, Any]],
    options: argparse.Namespace,
) -> None:
    """Write the results and the command to a record, which the documentation names."""
    record = {
        "command": "python benchmarks/review.py --data $CELLSEG3D_DATA "
        f"--out runs/review --seeds {options.seeds} --rounds {options.rounds} "
        f"--steps {options.steps} --record",
        "made": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "protocol": __doc__,
        "settings": {**SETTINGS, "pieces_a_round": EACH},
        "summary": list(summary),
        "rows": list(rows),
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

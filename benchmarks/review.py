"""What a reviewed piece is worth: picked by `cellseg3d review` against random.

    python benchmarks/review.py --data "$CELLSEG3D_DATA" --out runs/review

On two real data sets, a 2D network is trained on four random pieces of slices. Then a
simulated annotator, who puts the true labels in, corrects four pieces a round: those
that `review` picks from the network's predictions, or random ones. After each round the
network goes on training on all pieces so far, and is scored on a quadrant that no piece
comes from. Both begin with the same network, and learn for the same number of steps.
What is complete is not repeated; `--record` writes benchmarks/records/review.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cellseg3d import TrainOptions, load_model, train
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.labels import class_labels
from cellseg3d.io.fingerprint import fingerprint
from cellseg3d.io.registry import open_volume, read_labels, write_labels
from cellseg3d.metrics.overlap import dice
from cellseg3d.prediction.segment import segment
from cellseg3d.review.choose import TileMeans
from cellseg3d.review.merge import merge_reviews
from cellseg3d.review.pieces import MARKS, PREDICTED, Piece, Review
from cellseg3d.review.prepare import ReviewOptions, prepare_review

RECORD = Path(__file__).parent / "records" / "review.json"
BUNDLE = "cell_tomo_unet2d"
TASKS = ("vnc_mito", "cdeep3m_mito")
TEST = "BL"
SIZE = 128
EACH = 4
ARMS = ("picked", "random")
NETWORK = {
    "network_def::channels": "[16, 32, 64]",
    "spec::patch_shape": "[128, 128]",
    "train::dataloader::batch_size": 4,
}


def main() -> None:
    """Run what has no score yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of each training")
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
        words = ["--data", str(data), "--out", str(out), "--test", TEST]
        subprocess.run([sys.executable, str(script), *words], check=True)
    return out


def curves(
    datalist: Datalist, seed: int, place: Path, options: argparse.Namespace
) -> list[dict[str, object]]:
    """Return the Dice of both arms after each round, of one data set and seed."""
    pool = [case for case in datalist.cases if case.split != "test"]
    first = place / "random_0"
    if not first.is_dir():
        annotate(random_review(pool, datalist, seed, 0, first), pool, datalist)
    base = place / "base"
    learn(BUNDLE, [first], base, seed, options, scratch=True)
    rows = [row(datalist, seed, arm, 0, base, EACH) for arm in ARMS]
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
                    ReviewOptions(EACH, SIZE),
                    before=reviews,
                )
                annotate(found, pool, datalist)
            reviews.append(review)
            after = place / f"run_{arm}_{number}"
            learn(run, reviews, after, seed, options)
            run = after
            rows.append(row(datalist, seed, arm, number, run, EACH * (number + 1)))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def random_review(
    pool: Sequence[Case], datalist: Datalist, seed: int, number: int, out: Path
) -> Review:
    """Write a review of random pieces, without any prediction."""
    random = np.random.default_rng([seed, number])
    pieces = []
    (out / PREDICTED).mkdir(parents=True)
    for index in range(EACH):
        case = pool[int(random.integers(len(pool)))]
        shape = open_volume(case.image).shape
        tiles = TileMeans(shape, "z", SIZE, shape)
        place = [int(random.integers(length)) for length in tiles.tiles]
        name = str(Path(case.image).absolute())
        pieces.append(Piece(f"{index:03d}", name, "z", tiles.roi(place), 0.0))
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
    bundle: str | Path,
    reviews: Sequence[Path],
    run: Path,
    seed: int,
    options: argparse.Namespace,
    *,
    scratch: bool = False,
) -> None:
    """Train on all pieces of some reviews for a fixed number of steps."""
    if (run / "models" / "model.safetensors").is_file():
        return
    merged = run.with_name(f"{run.name}_data")
    if not merged.is_dir():
        merge_reviews(reviews, merged)
    steps = 3 * options.steps if scratch else options.steps
    batch = int(str(NETWORK["train::dataloader::batch_size"]))
    settings = {**NETWORK, "train::dataset::samples": steps * batch}
    if not scratch:
        settings = {**settings, "optimizer::lr": 0.001}
    weights = None if scratch else Path(bundle) / "models" / "model.safetensors"
    wanted = TrainOptions(
        fold="none",
        epochs=1,
        seed=seed,
        pretrained=weights,
        progress=False,
        settings=parsed(settings),
        calibrate=False,
    )
    train(bundle, merged, run, wanted)


def parsed(settings: dict[str, object]) -> dict[str, object]:
    """Return settings with lists that were written as text."""
    return {
        key: json.loads(value) if isinstance(value, str) else value
        for key, value in settings.items()
    }


def row(
    datalist: Datalist, seed: int, arm: str, number: int, run: Path, pieces: int
) -> dict[str, object]:
    """Return the score of a run on the held out quadrant, computed once."""
    kept = run / "test_dice.json"
    if not kept.is_file():
        model = load_model(run)
        values = []
        for case in datalist.cases:
            if case.split == "test":
                raw = read_labels(str(case.label))
                truth = class_labels(raw.read(), datalist, raw.name)
                found = segment(open_volume(case.image, spacing=case.spacing), model)
                values.append(float(dice(found.labels.read(), truth, 1)))
        kept.write_text(json.dumps(statistics.mean(values)))
    return {
        "task": datalist.name,
        "seed": seed,
        "arm": arm,
        "round": number,
        "pieces": pieces,
        "dice": json.loads(kept.read_text()),
    }


def summarise(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Return mean Dice of each data set, arm and round, and the gain for each piece."""
    found = []
    keys = {(row["task"], row["arm"], row["round"], row["pieces"]): 0 for row in rows}
    for task, arm, number, pieces in keys:
        mine = {
            row["seed"]: float(str(row["dice"]))
            for row in rows
            if (row["task"], row["arm"], row["round"]) == (task, arm, number)
        }
        base = {
            row["seed"]: float(str(row["dice"]))
            for row in rows
            if (row["task"], row["arm"], row["round"]) == (task, arm, 0)
        }
        gains = [mine[seed] - base[seed] for seed in mine]
        reviewed = int(str(pieces)) - EACH
        found.append(
            {
                "task": task,
                "arm": arm,
                "reviewed": reviewed,
                "dice": round(statistics.mean(mine.values()), 4),
                "seeds": [round(value, 4) for value in mine.values()],
                "gain_per_piece": round(statistics.mean(gains) / max(1, reviewed), 5),
            }
        )
    return found


def write_record(
    rows: Sequence[dict[str, object]],
    summary: Sequence[dict[str, object]],
    options: argparse.Namespace,
) -> None:
    """Write what was measured, and how, for the documentation."""
    record = {
        "command": "python benchmarks/review.py --data $CELLSEG3D_DATA "
        f"--out runs/review --seeds {options.seeds} --rounds {options.rounds} "
        f"--steps {options.steps} --record",
        "made": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "protocol": __doc__,
        "settings": {**NETWORK, "piece": SIZE, "pieces_a_round": EACH},
        "summary": list(summary),
        "rows": list(rows),
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Compare fine-tuning with training from scratch, by labelled slices and by time.

    python benchmarks/finetune.py --data "$CELLSEG3D_DATA" --out runs/finetune --quick

A bundle learns a data set that its weights never saw, from its shipped weights and from
random ones, with 1, 3, 10 or all slices of one volume labelled. Every training has a
fixed number of steps, so the scores do not depend on how busy the machine is; the
processor time of each is recorded. Another volume is scored. A benchmark that was
stopped continues when it is started again. `--quick` runs a small part of it, and
`--record` writes the results so far to benchmarks/records/finetune.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cellseg3d import TrainOptions, load_model, segment, simulate_dataset, train
from cellseg3d.bundle.shipped import find_bundle, weights_file
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist, write_datalist
from cellseg3d.datasets.labels import class_labels
from cellseg3d.datasets.simulated import SimulationOptions
from cellseg3d.io.registry import open_volume, read_labels
from cellseg3d.metrics.overlap import dice
from cellseg3d.simulate.acquisition import Scan

RECORD = Path(__file__).parent / "records" / "finetune.json"
STARTS = ("shipped", "scratch")


@dataclass(frozen=True)
class Task:
    """A data set to learn, with the bundle and the settings of the trainings.

    Parameters
    ----------
    bundle : str
    target : str or None
        What the network learns from labels that are object ids.
    settings : mapping
        Config keys of every training.
    depth : int
        Slices of the training volume.
    steps : tuple of int
        Steps of each training; the quick part takes the first two numbers.
    """

    bundle: str
    target: str | None
    settings: Mapping[str, Any]
    depth: int
    steps: tuple[int, ...]


TASKS = {
    # Nuclei in a confocal stack, for weights that saw 2D images of other instruments.
    "ovule_nuclei": Task(
        "nuclei_unet2d",
        "border-core",
        {"spec::patch_shape": [96, 96], "train::dataloader::batch_size": 4},
        100,
        (40, 160, 640, 2560),
    ),
    # Cells of a microscope with few photons, for weights of clearer tomograms.
    "noisier_cells": Task(
        "cell_tomo_unet3d",
        None,
        {"spec::patch_shape": [48, 80, 80], "train::dataloader::batch_size": 1},
        80,
        (20, 80, 320, 1280),
    ),
}


def main() -> None:
    """Run the trainings that have no score yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in options.tasks:
        task = TASKS[name]
        training, unseen = data_of(name, options)
        rows.append(row_of_shipped(name, task, unseen, options))
        for seed in range(1 if options.quick else options.seeds):
            for count in (
                (1, 3, task.depth) if options.quick else (1, 3, 10, task.depth)
            ):
                for steps in task.steps[:2] if options.quick else task.steps:
                    for start in STARTS:
                        key = (name, start, count, steps, seed)
                        rows.append(row_of(key, task, training, unseen, options))
                        print(json.dumps(rows[-1]), flush=True)
    if options.record:
        write_record(rows, options)


def data_of(name: str, options: argparse.Namespace) -> tuple[Path, Datalist]:
    """Return the datalist of the training volume, and the unseen volumes."""
    place = options.out / f"{name}_training.json"
    if name == "ovule_nuclei":
        whole = load_datalist(ovule(options.data, options.out))
    else:
        folder = options.out / name
        if not (folder / "datalist.json").is_file():
            scan = Scan(photons=100.0, tilt_step_deg=4.0)
            simulate_dataset(folder, 3, 80, 2000, SimulationOptions(scan=scan))
        whole = load_datalist(folder)
    first, *others = whole.cases
    write_datalist(replaced(whole, [first]), place)
    return place, replaced(whole, others)


def ovule(data: Path, out: Path) -> Path:
    """Write the datalist of the ovule's nuclei and return it."""
    script = Path(__file__).with_name("datalists.py")
    words = ["--data", str(data), "--out", str(out / "datalists")]
    subprocess.run([sys.executable, str(script), *words], check=True)
    return out / "datalists" / "ovule_nuclei.json"


def replaced(datalist: Datalist, cases: Sequence[Case]) -> Datalist:
    """Return a data set of other cases."""
    return replace(datalist, cases=tuple(cases))


def row_of(
    key: tuple[str, str, int, int, int],
    task: Task,
    training: Path,
    unseen: Datalist,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Return the scores of one training, which runs if it has none yet."""
    name, start, count, steps, seed = key
    run = options.out / f"{name}_{start}_{count}_{steps}_{seed}"
    kept = run / "finetune.json"
    if not kept.is_file():
        begun = time.process_time()
        batch = int(task.settings["train::dataloader::batch_size"])
        # A fine-tuning takes smaller steps than the start from random weights.
        rate = {"optimizer::lr": 0.0005} if start == "shipped" else {}
        train(
            task.bundle,
            training,
            run,
            TrainOptions(
                fold="none",
                epochs=1,
                seed=seed,
                device=options.device,
                target=task.target,
                pretrained=weights(task.bundle) if start == "shipped" else None,
                progress=False,
                settings={
                    **task.settings,
                    **rate,
                    "train::dataset::samples": steps * batch,
                },
                calibrate=False,
                annotated_slices=spread(task.depth, count),
            ),
        )
        cpu_s = round(time.process_time() - begun, 1)  # of the training alone
        wall_s = json.loads((run / "run.json").read_text())["cost"]["wall_s"]
        values = {"dice": score(run, unseen), "cpu_s": cpu_s, "wall_s": wall_s}
        kept.write_text(json.dumps(values))
    return {
        "task": name,
        "start": start,
        "slices": count,
        "steps": steps,
        "seed": seed,
        **json.loads(kept.read_text()),
    }


def row_of_shipped(
    name: str, task: Task, unseen: Datalist, options: argparse.Namespace
) -> dict[str, Any]:
    """Return the scores of the shipped weights without any training."""
    kept = options.out / f"{name}_shipped.json"
    if not kept.is_file():
        kept.write_text(json.dumps(score(find_bundle(task.bundle), unseen)))
    return {
        "task": name,
        "start": "shipped",
        "slices": 0,
        "steps": 0,
        "dice": json.loads(kept.read_text()),
    }


def weights(bundle: str) -> Path:
    """Return the file of a bundle's shipped weights."""
    return weights_file(find_bundle(bundle))


def spread(depth: int, count: int) -> str:
    """Return slice numbers spread over a volume, as `annotated_slices` takes them."""
    return ",".join(str(int((place + 0.5) * depth / count)) for place in range(count))


def score(run: Path, unseen: Datalist) -> dict[str, float]:
    """Return the mean Dice over the unseen volumes, of each class and of all labels."""
    model = load_model(run)
    found: dict[str, list[float]] = {}
    for case in unseen.cases:
        raw = read_labels(str(case.label))
        truth = class_labels(raw.read(), unseen, raw.name)
        volume = open_volume(case.image, spacing=case.spacing)
        labels = segment(volume, model).labels.read()
        found.setdefault("foreground", []).append(float(dice(labels, truth)))
        if unseen.labels == "classes":
            for value, name in enumerate(unseen.classes[1:], start=1):
                found.setdefault(name, []).append(float(dice(labels, truth, value)))
    return {name: round(statistics.mean(each), 4) for name, each in found.items()}


def write_record(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """Write the results and the command to a record, which the documentation names."""
    quick = " --quick" if options.quick else f" --seeds {options.seeds}"
    record = {
        "command": "python benchmarks/finetune.py --data $CELLSEG3D_DATA --out "
        f"runs/finetune{quick} --tasks {' '.join(options.tasks)} --record",
        "made": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "device": options.device,
        "protocol": __doc__,
        "rows": list(rows),
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Train the weights of all bundles on a data-centre GPU, side by side.

A small network does not fill such a card, and each training waits for its samples.
Therefore all trainings run at the same time, each in a process of its own. Prepare the
data on the machine that has the labelled volumes; it needs no GPU. Then copy the folder
to the machine with the GPU, which also makes the simulated tomograms:

    python benchmarks/train_weights_gpu.py prepare --out weights_data
    python benchmarks/train_weights_gpu.py train --out weights_data --seconds 400

Each training writes its run to ``OUT/BUNDLE/PART``, so the finished ones are kept if
the time runs out. On the machine with the labelled volumes, ``cellseg3d bundle
train-weights NAME --out OUT/NAME --score-only`` scores the trainings and writes
weights, card and record.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from cellseg3d.bundle.shipped import configs_dir, find_bundle
from cellseg3d.runs.options import TrainOptions
from cellseg3d.weights.prepare import prepare
from cellseg3d.weights.recipe import WeightsRecipe, read_recipe, recipe_names
from cellseg3d.weights.training import Part, choose_parts, parts_of, train_part


def main() -> None:
    """Prepare data, train every part of every bundle, or train one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["prepare", "train", "one"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundles", nargs="*")
    parser.add_argument("--seconds", type=float, default=400.0)
    parser.add_argument("--left-out-seconds", type=float, default=180.0)
    parser.add_argument("--part", help="of the step one")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    names = options.bundles or recipe_names(configs_dir())
    if options.step == "one":
        train_one(names[0], options)
        return
    measured = [name for name in names if not is_simulated(name)]
    if options.step == "prepare":
        for name in measured:
            size = sum(file.stat().st_size for file in data_of(name, options).iterdir())
            print(f"{name}: {size / 2**20:.1f} MiB of data", flush=True)
        return
    ends = time.monotonic() + options.seconds
    # Simulated tomograms are made on all cores, so before the other trainings begin.
    names.sort(key=lambda name: name in measured)
    waiting = [(name, part) for name in names for part in parts(name, options)]
    running = [
        (name, part, begin(name, "one", options, part.name))
        for name, part in waiting
        if not part.is_complete
    ]
    while running:
        time.sleep(1)
        for name, part, process in list(running):
            if process.poll() is None:
                continue
            running.remove((name, part, process))
            print(f"{name}/{part.name}: ended with {process.returncode}", flush=True)
            left = ends - time.monotonic()
            if process.returncode and left > options.seconds / 2:
                # The GPU's memory may have been short while the others began.
                shutil.rmtree(part.run, ignore_errors=True)
                options.seconds, kept = left, options.seconds
                again = begin(name, "one", options, part.name)
                options.seconds = kept
                running.append((name, part, again))


def begin(
    name: str, step: str, options: argparse.Namespace, part: str | None = None
) -> subprocess.Popen[bytes]:
    """Begin a process of this script; its output goes to a file of its own."""
    words = [sys.executable, __file__, step, "--out", str(options.out)]
    words += ["--bundles", name, "--seconds", str(options.seconds)]
    words += ["--left-out-seconds", str(options.left_out_seconds)]
    words += ["--device", options.device]
    if part is not None:
        words += ["--part", part]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = options.out / "logs"
    log.mkdir(parents=True, exist_ok=True)
    with (log / f"{name}_{part or step}.txt").open("wb") as text:
        return subprocess.Popen(
            words, env=environment, stdout=text, stderr=subprocess.STDOUT
        )


def train_one(name: str, options: argparse.Namespace) -> None:
    """Train one part of one bundle."""
    [part] = choose_parts(parts(name, options), options.part)
    begun = time.perf_counter()
    seconds = options.left_out_seconds if part.left_out else options.seconds
    train_part(
        part,
        recipe(name),
        find_bundle(name),
        prepare(recipe(name), data_folder(), options.out / name / "data"),
        TrainOptions(
            minutes=seconds / 60,
            device=options.device,
            workers=1,
            progress=False,
        ),
    )
    # Checkpoints are large, and a training that has ended needs them no more.
    shutil.rmtree(part.run / "checkpoints")
    shutil.rmtree(part.run / "tensorboard", ignore_errors=True)
    steps = part.record.get("iteration")
    print(f"{steps} steps, {time.perf_counter() - begun:.0f} s", flush=True)


def parts(name: str, options: argparse.Namespace) -> list[Part]:
    """Return the trainings of a bundle; its data must be prepared or simulated."""
    folder = options.out / name
    datalist = prepare(recipe(name), data_folder(), folder / "data")
    return parts_of(recipe(name), datalist, folder)


def data_of(name: str, options: argparse.Namespace) -> Path:
    """Prepare the data of a bundle; return their folder."""
    return prepare(recipe(name), data_folder(), options.out / name / "data").parent


def recipe(name: str) -> WeightsRecipe:
    """Return how the weights of a bundle are made."""
    return read_recipe(configs_dir(), name)


def is_simulated(name: str) -> bool:
    """Whether a bundle trains on simulated tomograms."""
    return bool(recipe(name).simulated)


def data_folder() -> Path | None:
    """Return the folder of labelled volumes, or None if there is none."""
    place = os.environ.get("CELLSEG3D_DATA")
    return Path(place) if place else None


if __name__ == "__main__":
    main()

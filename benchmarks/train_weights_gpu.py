"""Train the weights of several bundles on a data-centre GPU, some 90 seconds each.

Prepare the data where they lie, with the labelled volumes and no GPU, and carry the
folder to the machine with the GPU:

    python benchmarks/train_weights_gpu.py prepare --out weights_data
    python benchmarks/train_weights_gpu.py train --out weights_data --seconds 90

After each training `OUT/ready/NAME.safetensors` and `NAME.json` lie there, so that a
run that is cut short still counts. Back where the data lie, `cellseg3d bundle
train-weights NAME --out OUT/NAME --score-only` scores and ships what was trained.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

from cellseg3d.bundle.shipped import configs_dir, find_bundle
from cellseg3d.runs.folder import TrainOptions
from cellseg3d.weights.prepare import prepare
from cellseg3d.weights.recipe import read_recipe, recipe_names
from cellseg3d.weights.training import parts_of, train_part


def main() -> None:
    """Prepare data, or train every part of every bundle in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["prepare", "train"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundles", nargs="*")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--left-out-seconds", type=float, default=30.0)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    names = options.bundles or recipe_names(configs_dir())
    data = os.environ.get("CELLSEG3D_DATA")
    trainings = []
    for name in names:
        recipe = read_recipe(configs_dir(), name)
        folder = options.out / name
        datalist = prepare(recipe, Path(data) if data else None, folder / "data")
        size = sum(file.stat().st_size for file in datalist.parent.iterdir())
        print(f"{name}: {size / 2**20:.1f} MiB of data", flush=True)
        trainings += [(recipe, datalist, p) for p in parts_of(recipe, datalist, folder)]
    if options.step == "prepare":
        return
    # The weights that are shipped come first, for every bundle.
    trainings.sort(key=lambda item: item[2].left_out is not None)
    ready = options.out / "ready"
    ready.mkdir(exist_ok=True)
    for recipe, datalist, part in trainings:
        if part.is_complete:
            continue
        begun = time.perf_counter()
        seconds = options.left_out_seconds if part.left_out else options.seconds
        train_part(
            part,
            recipe,
            find_bundle(recipe.name),
            datalist,
            TrainOptions(
                minutes=seconds / 60, device=options.device, workers=4, progress=False
            ),
        )
        name = f"{recipe.name}_{part.name}"
        weights = part.run / "models" / "model.safetensors"
        shutil.copyfile(weights, ready / f"{name}.safetensors")
        facts = {
            "bundle": recipe.name,
            "part": part.name,
            "seconds": round(time.perf_counter() - begun, 1),
            "steps": part.record.get("iteration"),
            "cost": part.record.get("cost"),
            "machine": part.record.get("machine"),
        }
        text = json.dumps(facts, indent=1) + "\n"
        (ready / f"{name}.json").write_text(text, encoding="utf-8")
        print(name, facts, flush=True)


if __name__ == "__main__":
    main()

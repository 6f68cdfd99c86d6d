"""Train nnU-Net v2 within a time budget, or predict; needs only `nnunetv2`.

    python nnunet_driver.py prepare --work W --configuration 2d --memory-gb 0.5
    python nnunet_driver.py train --work W --configuration 2d --minutes 5 --seed 0
    python nnunet_driver.py predict --work W --configuration 2d
    python nnunet_driver.py curve --work W --configuration 2d

This script imports nothing of cellseg3d, so nnU-Net can have an environment of its
own. Plans, preprocessing, augmentation, network, loss, optimiser and prediction are
those of nnU-Net. Only this differs: the planner may be told of another GPU memory than
its 8 GB; training ends when the time is up instead of after 1000 epochs; the learning
rate falls with the time; and weights are kept at equal shares of the time instead of a
validation after each epoch.
"""

import argparse
import json
import math
import os
import random
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import monotonic, process_time
from typing import Any

DATASET = "Dataset001_fold"
PLANS = "nnUNetPlans"
SNAPSHOT = "snapshot{}.pth"
SNAPSHOTS = "snapshots.json"


def main() -> None:
    """Run the command that the first argument names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("prepare", "train", "predict", "curve"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--configuration", required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-gb", type=float, default=None)
    parser.add_argument("--points", type=int, default=8)
    options = parser.parse_args()
    for name in ("raw", "preprocessed", "results"):
        folder = options.work / name
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder)
    verbs = {"prepare": prepare, "train": train, "predict": predict, "curve": curve}
    verbs[options.verb](options)


def prepare(options: argparse.Namespace) -> None:
    """Extract the fingerprint, plan, and preprocess for one configuration."""
    from nnunetv2.experiment_planning import (  # type: ignore[import-not-found]  # noqa: PLC0415
        plan_and_preprocess_api as api,
    )

    api.extract_fingerprints([1], num_processes=1, check_dataset_integrity=True)
    api.plan_experiments([1], gpu_memory_target_in_gb=options.memory_gb)
    plans = json.loads(
        (options.work / "preprocessed" / DATASET / f"{PLANS}.json").read_text(
            encoding="utf-8"
        )
    )
    if options.configuration not in plans["configurations"]:
        known = ", ".join(plans["configurations"])
        message = f"nnU-Net plans no {options.configuration!r} for this data: {known}"
        raise SystemExit(message)
    api.preprocess([1], configurations=[options.configuration], num_processes=[1])


def train(options: argparse.Namespace) -> None:
    """Train on every case until the time is up."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from nnunetv2.run.run_training import get_trainer_from_args  # type: ignore[import-not-found]  # noqa: PLC0415

    if options.clock == "cpu":  # what other processes augment would count nowhere
        os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 - nnU-Net's name
    random.seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002 - nnU-Net draws from this one
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = get_trainer_from_args(
        DATASET, options.configuration, "all", device=device
    )
    trainer.on_train_start()
    clock = process_time if options.clock == "cpu" else monotonic
    kept: list[dict[str, Any]] = []

    def keep(share: float, steps: int, spent_s: float) -> None:
        name = SNAPSHOT.format(len(kept))
        trainer.save_checkpoint(str(Path(trainer.output_folder) / name))
        kept.append(
            {"weights": name, "share": share, "steps": steps, "spent_s": spent_s}
        )

    steps = spend(trainer, 60 * options.minutes, clock, keep, options.points)
    trainer.on_train_end()
    (options.work / SNAPSHOTS).write_text(json.dumps(kept), encoding="utf-8")
    patch = list(trainer.configuration_manager.patch_size)
    facts = {
        "steps": steps,
        "voxels": steps * int(trainer.batch_size) * math.prod(map(int, patch)),
        "parameters": sum(each.numel() for each in trainer.network.parameters()),
        "patch": [int(side) for side in patch],
        "batch": int(trainer.batch_size),
        "versions": {"nnunetv2": version("nnunetv2"), "torch": torch.__version__},
        "warnings": [],
    }
    (options.work / "trained.json").write_text(json.dumps(facts), encoding="utf-8")


def spend(
    trainer: Any,  # noqa: ANN401 - nnU-Net's, untyped
    budget_s: float,
    clock: Callable[[], float],
    keep: Callable[[float, int, float], None],
    points: int,
) -> int:
    """Take training steps until the budget is spent; return how many.

    `keep` is called with the share, the steps and the seconds at `points` equal shares
    of the budget, the last of them at the end. Its time is not counted.
    """
    trainer.network.train()
    begun, steps, kept = clock(), 0, 0
    while (spent_s := clock() - begun) < budget_s:
        share = spent_s / budget_s
        if kept < points - 1 and share >= (kept + 1) / points:
            keep(share, steps, spent_s)
            kept += 1
            begun = clock() - spent_s
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - share) ** 0.9
        trainer.train_step(next(trainer.dataloader_train))
        steps += 1
    keep(1.0, steps, spent_s)
    return steps


def predict(options: argparse.Namespace) -> None:
    """Predict the images in ``held_out`` with the last weights."""
    done = predicted(
        options, "checkpoint_final.pth", "held_out", options.work / "predictions"
    )
    (options.work / "predicted.json").write_text(
        json.dumps({"volumes": done}), encoding="utf-8"
    )


def curve(options: argparse.Namespace) -> None:
    """Predict the images in ``validation`` with all weights that were kept."""
    kept = json.loads((options.work / SNAPSHOTS).read_text(encoding="utf-8"))
    for number, row in enumerate(kept):
        folder = options.work / "curve" / str(number)
        predicted(options, row["weights"], "validation", folder)


def predicted(
    options: argparse.Namespace, weights: str, images: str, out: Path
) -> dict[str, dict[str, Any]]:
    """Predict a folder of images as nnU-Net does, without test-time mirroring.

    Mirroring takes eight times as long, and no other method of a study uses it.
    """
    import torch  # noqa: PLC0415
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # type: ignore[import-not-found]  # noqa: PLC0415

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictor = nnUNetPredictor(
        use_mirroring=False,
        device=device,
        perform_everything_on_device=device.type == "cuda",
    )
    trained = f"nnUNetTrainer__{PLANS}__{options.configuration}"
    folder = options.work / "results" / DATASET / trained
    predictor.initialize_from_trained_model_folder(
        str(folder), use_folds=("all",), checkpoint_name=weights
    )
    out.mkdir(parents=True, exist_ok=True)
    done = {}
    for image in sorted((options.work / images).glob("*_0000.tif")):
        name = image.name.removesuffix("_0000.tif")
        begun = monotonic()
        predictor.predict_from_files_sequential([[str(image)]], [str(out / name)])
        done[name] = {
            "labels": str(out / f"{name}.tif"),
            "elapsed_s": monotonic() - begun,
        }
    return done


if __name__ == "__main__":
    main()

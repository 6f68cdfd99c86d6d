"""Check the Dice that is expected of a volume without truth on volumes left out.

Simulated cells of all conditions, of seeds that train no network, are predicted by a
shipped bundle. Once the half of each condition, and once each whole condition, is left
out of the fit, and the Dice that is expected of it is compared with the true one.
With --unlike, networks that a data set was left out of are checked on the middle of
volumes of that data set. Such volumes are unlike the training, where no Dice can be
expected; the record says whether that is noticed, and how wrong a figure would be. The
lines of these networks are fitted on their own training volumes, for want of others.

    python benchmarks/expected_dice.py cell_tomo_unet2d --data runs/expected_dice
    python benchmarks/expected_dice.py --unlike runs/weights/em_mitochondria_unet2d

The result is added to benchmarks/records/expected_dice.json.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.shipped import configs_dir, find_bundle
from cellseg3d.calibration.confidence import (
    Answered,
    LabelledVolume,
    answers_of,
    lines_of,
    soft_of,
    temperature_of,
)
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.labels import class_labels
from cellseg3d.datasets.likeness import profile_of, unlike, volume_features
from cellseg3d.io.registry import read_labels, read_volume
from cellseg3d.weights.confidence import volumes_of
from cellseg3d.weights.prepare import test_cases
from cellseg3d.weights.recipe import FINAL, read_recipe
from cellseg3d.weights.scores import model_of
from cellseg3d.weights.shifts import Labelled, middle
from cellseg3d.weights.training import Part

RECORD = Path(__file__).parent / "records" / "expected_dice.json"
# The most voxels of a volume of foreign data.
VOXELS = 2**20
Row = tuple[str, str, float, float, float]


def told(
    fitted: Sequence[Answered], tested: Sequence[Answered], classes: Sequence[str]
) -> list[Row]:
    """Return (volume, class, expected, within, true) of volumes left out of a fit."""
    temperature = temperature_of(fitted)
    lines = lines_of(fitted, classes, temperature)
    rows = []
    for answer in tested:
        softs = soft_of(answer, temperature)
        for index, name in enumerate(classes):
            pair = (softs[index], answer.dice[index])
            if name in lines and np.isfinite(pair).all():
                value, reach = lines[name].expect(float(pair[0]))
                rows.append((answer.name, name, value, reach or np.nan, pair[1]))
    return rows


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return n, correlation, mean absolute error and coverage of each class."""
    found = {}
    for name in dict.fromkeys(row[1] for row in rows):
        table = np.array([row[2:] for row in rows if row[1] == name])
        value, reach, true = table.T
        found[name] = {
            "n": len(table),
            "true": [round(float(v), 4) for v in (true.min(), true.mean(), true.max())],
            "correlation": round(float(np.corrcoef(value, true)[0, 1]), 3),
            "mean_absolute_error": round(float(np.abs(value - true).mean()), 4),
            "error_of_the_mean": round(float(np.abs(true.mean() - true).mean()), 4),
            "coverage": round(float((np.abs(value - true) <= reach).mean()), 3),
            "half_width": round(float(np.mean(reach)), 4),
        }
    return found


def simulated(name: str, folder: Path) -> dict[str, Any]:
    """Check a bundle of simulated cells."""
    recipe = read_recipe(configs_dir(), name)
    model = model_of(Part(FINAL, None, find_bundle(name), 0), recipe)
    found = list(test_cases(recipe, folder))
    answers = answers_of(model, volumes_of(found, recipe), len(found))
    groups = list(dict.fromkeys(answer.group for answer in answers))
    halves: tuple[list[Answered], list[Answered]] = ([], [])
    for group in groups:
        own = [answer for answer in answers if answer.group == group]
        for index, answer in enumerate(own):
            halves[index % 2].append(answer)
    by_condition = []
    for group in groups:
        kept = [answer for answer in answers if answer.group != group]
        left = [answer for answer in answers if answer.group == group]
        by_condition += told(kept, left, model.classes)
    return {
        "other cells of the same conditions": summary(told(*halves, model.classes)),
        "cells of a condition left out": summary(by_condition),
    }


def foreign(folder: Path) -> dict[str, Any]:
    """Check networks on the data set that was left out of their training."""
    cases = load_datalist(next((folder / "data").glob("datalist.json")))
    found: dict[str, Any] = {}
    for run in sorted(folder.glob("without_*")):
        model = load_model(run)
        group = run.name.removeprefix("without_")
        inner, outer = [], []
        for case in cases.cases:
            whole = Labelled(read_volume(case.image), read_labels(case.label or ""))
            part = middle(whole, VOXELS)
            truth = class_labels(part.label.read(), cases, part.label.name)
            side = outer if case.group == group else inner
            side.append(LabelledVolume(case.name, case.name, part.image, truth))
        profile = profile_of([volume_features(v.image, model.intensity) for v in inner])
        rows = told(answers_of(model, inner), answers_of(model, outer), model.classes)
        found[run.name] = [
            {
                "volume": row[0],
                "expected": round(row[2], 3),
                "within": None if np.isnan(row[3]) else round(row[3], 3),
                "true": round(row[4], 3),
                "unlike": unlike(
                    volume_features(volume.image, model.intensity), profile
                ),
            }
            for row in rows
            for volume in outer
            if volume.name == row[0]
        ]
    return found


def main() -> None:
    """Run one check and add it to the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("--data", type=Path, default=Path("runs/expected_dice"))
    parser.add_argument("--unlike", type=Path)
    given = parser.parse_args()
    begun = time.process_time()
    if given.unlike is not None:
        key, result = f"{given.unlike.name}, foreign data", foreign(given.unlike)
    else:
        key, result = given.bundle, simulated(given.bundle, given.data)
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    known[key] = {**result, "processor_s": round(time.process_time() - begun, 1)}
    RECORD.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(known[key], indent=1))


if __name__ == "__main__":
    main()

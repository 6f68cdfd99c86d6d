"""Measure what adapting a network's normalisation gains on changed tomograms.

    python benchmarks/adapt.py cell_tomo_unet3d --out adapted

Simulated cells of other seeds than those of the training are changed as other
microscopes would (`cellseg3d.weights.shifts`), and predicted with the weights that the
bundle ships: without adaptation, and with the volume's statistics counting half, three
quarters and all. Prints the mean Dice of each, and adds it to
``benchmarks/records/adapt.json``.
"""

import argparse
import json
from pathlib import Path
from unittest import mock

import numpy as np

from cellseg3d.bundle.model import TrainedModel, load_model
from cellseg3d.bundle.shipped import configs_dir
from cellseg3d.core.atomic import write_text
from cellseg3d.datasets.cases import Datalist
from cellseg3d.datasets.labels import class_labels
from cellseg3d.io.registry import read_labels, read_volume
from cellseg3d.metrics.overlap import dice
from cellseg3d.prediction import adapt
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.prediction.setup import differences_of
from cellseg3d.runs.record import git_commit, machine
from cellseg3d.simulate.components import LABEL_MAP
from cellseg3d.weights.prepare import test_cases
from cellseg3d.weights.recipe import read_recipe
from cellseg3d.weights.scores import SHIFTED_VOXELS
from cellseg3d.weights.shifts import Labelled, middle, shifted

STRENGTHS = (0.0, 0.5, 0.75, 1.0)
RECORD = Path(__file__).parent / "records" / "adapt.json"


def measured(
    model: TrainedModel, cases: Datalist, given: Labelled
) -> list[dict[str, float]]:
    """Return the Dice of each class at each strength."""
    truth = class_labels(given.label.read(), cases, given.label.name)
    rows = []
    for strength in STRENGTHS:
        options = SegmentOptions(adapt="on" if strength else "off")
        kept = adapt.adapted.__kwdefaults__
        with mock.patch.dict(kept, strength=strength):
            found = segment(given.image, model, options).labels.read()
        rows.append(
            {
                name: float(dice(found == index, truth == index))
                for index, name in enumerate(model.classes)
                if index and (truth == index).any()
            }
        )
    return rows


def main() -> None:
    """Read the command line, measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--out", type=Path, required=True, help="simulated cells")
    parser.add_argument("--volumes", type=int, default=3)
    args = parser.parse_args()
    model = load_model(args.bundle)
    recipe = read_recipe(configs_dir(), args.bundle)
    label_map = dict(recipe.label_map or LABEL_MAP)
    cases = Datalist(args.bundle, model.classes, label_map, cases=())
    simulated = list(test_cases(recipe, args.out))
    chosen = simulated[:: max(1, len(simulated) // args.volumes)][: args.volumes]
    table: dict[str, list[list[dict[str, float]]]] = {}
    unlike: dict[str, int] = {}
    for _, case in chosen:
        whole = Labelled(read_volume(case.image), read_labels(case.label or ""))
        given = middle(whole, SHIFTED_VOXELS)
        for name, copy in {"none": given, **shifted(given, inverts=False)}.items():
            table.setdefault(name, []).append(measured(model, cases, copy))
            unlike[name] = unlike.get(name, 0) + bool(differences_of(copy.image, model))
    rows = []
    for name, volumes in table.items():
        means = [
            {
                key: round(
                    float(np.nanmean([v[k].get(key, np.nan) for v in volumes])), 4
                )
                for key in model.classes[1:]
            }
            for k in range(len(STRENGTHS))
        ]
        rows.append({"change": name, "looks_different": unlike[name], "dice": means})
        print(f"{name:24s}", " | ".join(" ".join(map(str, m.values())) for m in means))
    before = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    before[args.bundle] = {
        "command": f"python benchmarks/adapt.py {args.bundle} --out OUT",
        "commit": git_commit(),
        "machine": machine(),
        "sha256": model.sha256,
        "volumes": [case.name for _, case in chosen],
        "strengths": list(STRENGTHS),
        "rows": rows,
    }
    write_text(RECORD, json.dumps(before, indent=1) + "\n")


if __name__ == "__main__":
    main()

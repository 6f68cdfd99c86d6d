"""Train networks that tell touching objects apart, and score the objects they find.

    python benchmarks/objects.py --data "$CELLSEG3D_DATA" --out runs/objects \
        --epochs 6

Each network is trained on some volumes and scored on others, by the commands
``train --target`` and ``predict --probs``. The decoder is tuned on the predictions of
the training volumes only, and the scores are those of ``evaluate --objects``. Touching
spheres are simulated, so their number is known. Results are added to
``OUT/objects.json``, and networks that have results there are skipped.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellseg3d.cli.main import main as cellseg3d
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import case_stem
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.volumes import read_case_label
from cellseg3d.io.registry import open_volume, write_labels, write_volume
from cellseg3d.metrics.object_scores import match_objects, object_scores
from cellseg3d.objects.files import in_class_order
from cellseg3d.objects.label import label_objects
from cellseg3d.prediction.tune_objects import tune_run

EDGE_UM = 0.1
SHAPE = (48, 96, 96)
# A decoder is tuned on this many voxels of the training volumes along z, y and x.
TUNED_SIDE = 64
# Cases with these names are held out; of dsb2018 every fifth case is.
HELD_OUT = {
    "fib25_neurons": "z085-164",
    "ovule_nuclei": "1136_mini",
    "spheres": "s4 s5",
}


@dataclass(frozen=True)
class Net:
    """A training, and the decoders that find objects in its predictions."""

    data: str
    bundle: str
    target: str
    decoders: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its run folder."""
        return f"{self.data}_{self.target}"


NETS = (
    Net("spheres", "cell_tomo_unet3d", "classes", ("components", "watershed")),
    Net("spheres", "cell_tomo_unet3d", "border-core", ("border-core",)),
    Net("spheres", "cell_tomo_unet3d", "affinity", ("affinity",)),
    Net("ovule_nuclei", "cell_tomo_unet3d", "classes", ("components", "watershed")),
    Net("ovule_nuclei", "cell_tomo_unet3d", "border-core", ("border-core",)),
    Net("dsb2018", "nuclei_unet2d", "classes", ("components", "watershed")),
    Net("dsb2018", "nuclei_unet2d", "border-core", ("border-core",)),
    Net("fib25_neurons", "cell_tomo_unet3d", "border-core", ("border-core",)),
    Net("fib25_neurons", "cell_tomo_unet3d", "affinity", ("affinity",)),
)


def main() -> None:
    """Run the networks that are asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6, help="epochs of 50 steps")
    parser.add_argument(
        "--only", nargs="*", default=[], help="data sets, or DATA_TARGET, to run"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "objects.json"
    rows = json.loads(results.read_text()) if results.exists() else []
    done = {(row["data"], row["target"]) for row in rows}
    for net in NETS:
        if (net.data, net.target) in done or (
            options.only and not {net.data, net.name} & set(options.only)
        ):
            continue
        datalist = datalist_of(net.data, options.data, options.out)
        rows += run(net, datalist, options.out, options.epochs)
        results.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(
            f"| `{row['data']}` | {row['target']} | {row['decoder']} "
            f"| {row['true']} | {row['found']} | {row['merges']} | {row['splits']} "
            f"| {row['f1']:.3f} | {row['ap']:.3f} | {row['steps']} "
            f"| {row['training_cpu_s']} |"
        )


def run(net: Net, datalist: Path, out: Path, epochs: int) -> list[dict[str, Any]]:
    """Train, predict and score one network; return a row for each decoder."""
    folder = out / net.name
    if not (folder / "models" / "model.safetensors").exists():
        words = [
            "train",
            "--from-scratch",
            "--bundle",
            net.bundle,
            "--data",
            datalist,
            "--out",
            folder,
        ]
        words += ["--target", net.target, "--epochs", epochs, "--fold", "none"]
        command([*words, "--quiet", "--no-calibrate"])
    record = json.loads((folder / "run.json").read_text())
    fixed = {"data": net.data, "target": net.target, "steps": record["iteration"]}
    fixed["training_cpu_s"] = round(record["cost"]["cpu_s"])
    return [
        {**fixed, "decoder": method, **scored(folder, datalist, method)}
        for method in net.decoders
    ]


def scored(folder: Path, datalist: Path, method: str) -> dict[str, Any]:
    """Tune a decoder on the training volumes and return its scores on the others."""
    begun = time.perf_counter()
    tuned = tune_run(folder, method, side=TUNED_SIDE)
    tables = []
    cases = load_datalist(datalist)
    for case in cases.cases:
        if case.split != "test":
            continue
        truth = read_case_label(case, cases).array
        probs = predicted(folder, case.image)
        found = label_objects(probs, case.spacing, tuned.options, probs=True)
        tables.append(object_scores(match_objects(found.volume.array, truth)))
    keys = {"true": "n_true", "found": "n_predicted"}
    keys |= {key: key for key in ("merges", "splits")}
    sums = {name: int(sum(row[key] for row in tables)) for name, key in keys.items()}
    means = {
        name: float(np.nanmean([row[key] for row in tables]))
        for name, key in (("f1", "object_f1"), ("ap", "ap_mean"))
    }
    return {
        **sums,
        **means,
        "volumes": len(tables),
        "options": tuned.options.as_dict(),
        "elapsed_s": round(time.perf_counter() - begun, 1),
    }


def predicted(folder: Path, image: str) -> list[Volume]:
    """Return the probabilities of a volume, as `cellseg3d predict` writes them."""
    place = folder / "predictions"
    stem = case_stem(image)
    if not list(place.glob(f"{stem}*_labels.json")):
        words = ["predict", image, "--bundle", folder, "--out", place]
        command([*words, "--probs", "uint8", "--format", ".tif", "--overwrite"])
    paths, _ = in_class_order(sorted(place.glob(f"{stem}*_prob_*.tif")))
    return [open_volume(path) for path in paths]


def datalist_of(name: str, data: Path, out: Path) -> Path:
    """Return a datalist whose held-out cases are marked ``test``."""
    if name == "spheres":
        path = write_spheres(out / "spheres")
    else:
        path = out / f"{name}.json"
        if not path.exists():
            from datalists import TASKS, cases_of, datalist  # noqa: PLC0415

            rows = json.loads((data / "manifest.json").read_text())
            cases = [
                case
                for row in rows
                if row["dataset"] == name
                for case in cases_of(row, data.resolve(), name)
            ]
            path.write_text(json.dumps(datalist(name, TASKS[name][1], cases)))
    values = json.loads(path.read_text())
    held = HELD_OUT.get(name, "").split()
    for number, case in enumerate(values["cases"]):
        is_test = case["name"] in held if held else number % 5 == 0
        case["split"] = "test" if is_test else "training"
    path.write_text(json.dumps(values, indent=1) + "\n")
    return path


def write_spheres(folder: Path) -> Path:
    """Write noisy volumes of touching spheres, their ids and a datalist."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for number in range(6):
        ids, image = touching_spheres(number)
        spacing = Spacing(EDGE_UM, EDGE_UM, EDGE_UM)
        write_volume(folder / f"s{number}.tif", Volume(image, spacing))
        write_labels(folder / f"s{number}_ids.tif", Volume(ids, spacing))
        names = {"image": f"s{number}.tif", "label": f"s{number}_ids.tif"}
        cases.append({"name": f"s{number}", **names})
    values = {"name": "spheres", "classes": ["background", "sphere"]}
    values |= {"labels": "objects", "cases": cases}
    path = folder / "datalist.json"
    path.write_text(json.dumps(values, indent=1) + "\n")
    return path


def touching_spheres(seed: int) -> tuple[Any, Any]:
    """Return ids and a noisy image of spheres, each of which touches an earlier one."""
    rng = np.random.default_rng(seed)
    shape = np.array(SHAPE)
    centres, radii = [shape / 2], [8.0]
    for _ in range(4000):
        radius = rng.uniform(6, 10)
        beside = rng.integers(len(centres))
        direction = rng.standard_normal(3)
        away = radii[beside] + radius - 1.0
        centre = centres[beside] + away * direction / np.linalg.norm(direction)
        gaps = np.linalg.norm(np.array(centres) - centre, axis=1) - np.array(radii)
        inside = bool(((centre > 5) & (centre < shape - 5)).all())
        if inside and (gaps > radius - 1.01).all():
            centres.append(centre)
            radii.append(radius)
    grid = np.indices(SHAPE, np.float32)
    nearest = np.zeros(SHAPE, np.float32)
    ids = np.zeros(SHAPE, np.uint16)
    for number, (centre, radius) in enumerate(zip(centres, radii, strict=True), 1):
        square = sum((axis - at) ** 2 for axis, at in zip(grid, centre, strict=True))
        away = np.sqrt(square) - radius
        mine = away <= nearest
        nearest[mine], ids[mine] = away[mine], number
    image = np.where(ids > 0, 100.0, 50.0) + rng.normal(0, 25, SHAPE)
    return ids, image.clip(0, 255).astype(np.uint8)


def command(words: list[Any]) -> None:
    """Run one command of cellseg3d, and stop if it fails."""
    code = cellseg3d([str(word) for word in words])
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()

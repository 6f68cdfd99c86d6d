"""Write a datalist for each real data set in the folder CELLSEG3D_DATA.

    python benchmarks/datalists.py --data "$CELLSEG3D_DATA" --out runs/datalists

The datalists name the volumes by absolute paths. Sub-volumes of one acquisition share a
group, and their datalist sets ``allow_shared_groups``. Scores between them measure
generalisation within one specimen only, and every report says so. Where a data set has
too few volumes to keep one for validation, `PARTS` cuts one into parts, and these are
written beside the datalists.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import tifffile

from cellseg3d.io.registry import read_labels, read_volume

# The class names of a task, and the class index of each label value.
Task = tuple[list[str], dict[str, int] | None]
TASKS: dict[str, tuple[str, Task]] = {
    "vnc_mito": (
        "vnc_sstem",
        (["background", "mitochondrion"], {"1": 0, "2": 1, "3": 0, "4": 0}),
    ),
    "vnc_all": (
        "vnc_sstem",
        (["intracellular", "membrane", "mitochondrion", "synapse", "glia"], None),
    ),
    "cdeep3m_mito": ("cdeep3m_mito", (["background", "mitochondrion"], None)),
    "ovule_nuclei": ("ovule_nuclei", (["background", "nucleus"], None)),
    "gowt1": ("gowt1_mes_2d", (["background", "nucleus"], None)),
    "dsb2018": ("dsb2018", (["background", "nucleus"], None)),
    "fib25_neurons": ("fib25_neurons", (["background", "neuron"], None)),
    "axon_sem_2d": ("axon_sem_2d", (["background", "myelin", "axon"], None)),
    "plant_chloroplast": ("plant_chloroplast", (["background", "chloroplast"], None)),
}
INSTANCES = {"ovule_nuclei", "gowt1", "dsb2018", "fib25_neurons", "plant_chloroplast"}
ONE_SPECIMEN = {
    "vnc_mito",
    "vnc_all",
    "cdeep3m_mito",
    "gowt1",
    "fib25_neurons",
    "plant_chloroplast",
}
# The parts of a volume: the axis along which it is cut, and the range of each part. The
# last quarter of what trains validates; gaps keep a structure on one side.
QUADRANT = ("x", {"train": (0, 384), "validate": (384, 512)})
PARTS: dict[str, dict[str, tuple[str, dict[str, tuple[int, int]]]]] = {
    "vnc_all": {"TL": QUADRANT},
    "cdeep3m_mito": {"z010-029_TL": QUADRANT},
    "ovule_nuclei": {
        "1135_mini": ("x", {"train": (0, 75), "validate": (75, 100)}),
        "1136_mini": ("x", {"train": (0, 75), "validate": (75, 100)}),
    },
    "plant_chloroplast": {
        "leaf_left": (
            "y",
            {"train": (0, 520), "validate": (520, 680), "test": (700, 1170)},
        )
    },
}


def main() -> None:
    """Write the datalist of every task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", nargs="*", default=[], help="cases to hold out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = json.loads((options.data / "manifest.json").read_text(encoding="utf-8"))
    for task, (dataset, meaning) in TASKS.items():
        cases = [
            case
            for row in rows
            if row["dataset"] == dataset
            for case in cases_of(row, options.data.resolve(), task)
        ]
        for case in cases:
            if any(case["name"].endswith(name) for name in options.test):
                case["split"] = "test"
        values = datalist(task, meaning, cases)
        write(options.out / f"{task}.json", values)
        if task in PARTS:
            folder = options.out.resolve() / f"{task}_parts"
            parts = [part for case in cases for part in parts_of(case, task, folder)]
            values = datalist(task, meaning, parts) | {"allow_shared_groups": True}
            write(options.out / f"{task}_parts.json", values)


def write(path: Path, values: dict[str, Any]) -> None:
    """Write a datalist."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    print(f"{path}: {len(values['cases'])} cases")


def parts_of(case: dict[str, Any], task: str, folder: Path) -> list[dict[str, Any]]:
    """Return the parts of a case, with their files; the case if it is not cut."""
    if case["name"] not in PARTS[task]:
        return [case]
    axis, ranges = PARTS[task][case["name"]]
    folder.mkdir(parents=True, exist_ok=True)
    image = read_volume(case["image"]).read()
    label = read_labels(case["label"]).read()
    parts = []
    for name, (begin, end) in ranges.items():
        where = tuple(
            slice(begin, end) if each == axis else slice(None) for each in "zyx"
        )
        part = {**case, "name": f"{case['name']}_{name}"}
        for kind, array in (("image", image), ("label", label)):
            part[kind] = str(folder / f"{part['name']}_{kind}.tif")
            tifffile.imwrite(part[kind], array[where], compression="zlib")
        parts.append(part)
    return parts


def datalist(task: str, meaning: Task, cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the datalist of one task."""
    classes, label_map = meaning
    values: dict[str, Any] = {"name": task, "classes": classes}
    if label_map is not None:
        values["label_map"] = label_map
    if task in INSTANCES:
        values["labels"] = "objects"
    if task in ONE_SPECIMEN:
        values["allow_shared_groups"] = True
    return {**values, "cases": cases}


def cases_of(row: dict[str, Any], data: Path, task: str) -> list[dict[str, Any]]:
    """Return the cases of one row of the manifest; a file pattern gives many."""
    if "*" in row["image"]:
        images = sorted(data.glob(row["image"]))
        labels = data / Path(row["label"]).parent
        pairs = [(image.stem, str(image), str(labels / image.name)) for image in images]
    else:
        pairs = [(row["volume"], str(data / row["image"]), str(data / row["label"]))]
    shared = task in ONE_SPECIMEN
    spacing = spacing_um(row.get("spacing_nm"))
    return [
        {
            "name": name,
            "image": image,
            "label": label,
            "group": row["dataset"] if shared else row.get("group", name),
            **({"spacing_um": spacing} if spacing else {}),
        }
        for name, image, label in pairs
    ]


def spacing_um(spacing_nm: list[float] | None) -> list[float] | None:
    """Return the spacing (z, y, x) in um.

    An image with two axes becomes one slice whose thickness is its first voxel edge.
    """
    if spacing_nm is None:
        return None
    lengths = spacing_nm if len(spacing_nm) == 3 else [spacing_nm[0], *spacing_nm]
    return [length / 1000 for length in lengths]


if __name__ == "__main__":
    main()

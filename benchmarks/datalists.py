"""Write a datalist for each real data set in the folder CELLSEG3D_DATA.

    python benchmarks/datalists.py --data "$CELLSEG3D_DATA" --out runs/datalists

The datalists name the volumes by absolute paths, so nothing is copied. Sub-volumes of
one acquisition share a group, and their datalist sets ``allow_shared_groups``. Scores
between them measure generalisation within one specimen only, and every report says so.
"""

import argparse
import json
from pathlib import Path
from typing import Any

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
}
INSTANCES = {"ovule_nuclei", "gowt1", "dsb2018", "fib25_neurons"}
ONE_SPECIMEN = {"vnc_mito", "vnc_all", "cdeep3m_mito", "gowt1", "fib25_neurons"}


def main() -> None:
    """Write the datalist of every task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", nargs="*", default=[], help="cases to hold out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = json.loads((options.data / "manifest.json").read_text())
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
        path = options.out / f"{task}.json"
        path.write_text(json.dumps(values, indent=2) + "\n")
        print(f"{path}: {len(cases)} cases")


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
            "group": row["dataset"] if shared else name,
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

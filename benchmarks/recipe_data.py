"""What each recipe is measured on, and which cases are left out together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from datalists import TASKS, cases_of, datalist

from cellseg3d.datasets import simulated
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.splits import Fold, grouped_folds, leave_one_group_out

Values = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """One binary question that labels are scored by.

    Parameters
    ----------
    name : str
        What the table calls the class.
    rename : mapping of int to int
        Class to 0 or 1; the others stay.
    published : str
        What the original reports, on its own data.
    """

    name: str
    rename: Mapping[int, int] = field(default_factory=dict)
    published: str = ""


@dataclass(frozen=True)
class Recipe:
    """A bundle, the data that stand in for the original's, and what to score.

    Parameters
    ----------
    bundle : str
    task : str
        One of `datalists.TASKS`, or ``"simulated"``.
    measures : tuple of Measure
    folds : int or None
        Grouped k-fold; leave one case out when None.
    classes : tuple of str
        For simulated cells: what the classes are called.
    label_map : mapping of int to int
        For simulated cells: label value to class.
    roc : bool
        Choose the threshold on the training images' ROC curve, where Dice is largest.
    objects : {"", "components", "instances"}
        Score connected components of truth and prediction; or split objects and score
        them against the truth's ids.
    settings : tuple of str
        ``KEY=VALUE``, what the training changes in the bundle.
    trained : str
        Name of the recipe whose networks predict; this one's own when empty.
    axes : str or None
        Axes along which slices are predicted and fused; the bundle's when None.
    flips : bool
        Also predict flipped and turned copies.
    mount : {"capillary", "grid"}
        For simulated cells: round ones seen from all sides, or flat ones with a
        missing wedge.
    """

    bundle: str
    task: str
    measures: tuple[Measure, ...]
    folds: int | None = None
    classes: tuple[str, ...] = ()
    label_map: Mapping[int, int] = field(default_factory=dict)
    roc: bool = False
    objects: str = ""
    settings: tuple[str, ...] = ()
    trained: str = ""
    axes: str | None = None
    flips: bool = False
    mount: Literal["capillary", "grid"] = "capillary"


CASCADE = Recipe(
    "cell_tomo_cascade",
    "simulated",
    (
        Measure("cell", {2: 1}, "accuracy .9640, Jaccard .8566"),
        Measure("nucleus", {1: 0, 2: 1}, "accuracy .9784, Jaccard .8642"),
    ),
    classes=("background", "cytoplasm", "nucleus"),
    # Droplets, vesicles and mitochondria are parts of the cytoplasm.
    label_map={0: 0, 1: 1, 2: 2, 3: 1, 4: 1, 5: 1},
)
NARROW = "network_def::channels=[16,32,64]"
# The bundle's own rate is for pretrained filters.
FRESH = "optimizer::lr=0.002"
SHALLOW = replace(CASCADE, settings=("network_def::stage=unet", NARROW, FRESH))
# Linear absorption coefficients, 1/um, as they are: no volume is scaled by itself.
ABSOLUTE = ("intensity::mode=range", "intensity::lower=0.0", "intensity::upper=0.6")
MEMORY = ("network_def::stage=convlstm_unet", NARROW, FRESH, "spec::context=2")

RECIPES = {
    "sxt_cascade": CASCADE,
    "em_mito_sbem": Recipe(
        "em_mitochondria_unet2d",
        "cdeep3m_mito",
        (Measure("mitochondrion", published="Dice .91"),),
        objects="components",
    ),
    "em_mito_sstem": Recipe(
        "em_mitochondria_unet2d",
        "vnc_mito",
        (Measure("mitochondrion", published="Dice .91"),),
        objects="components",
    ),
    "mes": Recipe(
        "mes_nuclei_googlenet",
        "gowt1",
        (Measure("nucleus"),),
        roc=True,
        objects="instances",
    ),
    "dsb2018": Recipe(
        "nuclei_unet2d",
        "dsb2018",
        (Measure("nucleus", published="Jaccard .75"),),
        folds=5,
        roc=True,
        objects="instances",
    ),
    "unet31m": Recipe(
        "cell_tomo_unet31m",
        "simulated",
        (Measure("cell", published="median accuracy .993 per image"),),
        classes=("background", "cell"),
        label_map={0: 0, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1},
    ),
}


# Open questions of the cascade: shallower nets, and what may be added to them.
VARIATIONS = {
    "sxt_shallow": SHALLOW,
    "sxt_convlstm": replace(CASCADE, settings=MEMORY),
    "sxt_axes": replace(SHALLOW, trained="sxt_shallow", axes="zyx"),
    "sxt_flips": replace(SHALLOW, trained="sxt_shallow", flips=True),
    "sxt_other_cells": replace(SHALLOW, trained="sxt_shallow", mount="grid"),
    "sxt_flat_cells": replace(SHALLOW, mount="grid"),
    "sxt_range": replace(SHALLOW, settings=(*SHALLOW.settings, *ABSOLUTE)),
    "sxt_range_other_cells": replace(SHALLOW, trained="sxt_range", mount="grid"),
}


def write_datalist(
    recipe: Recipe, data: Path, out: Path, cells: int, side: int
) -> Path:
    """Write the datalist of a recipe's data, simulated if need be; return its path."""
    path = out / "datalist.json"
    if recipe.task == "simulated":
        # One set of cells serves every recipe that takes some.
        folder = out.parent / f"{recipe.mount}_{cells}x{side}"
        source = folder / "datalist.json"
        if not source.is_file():
            mount = simulated.SimulationOptions(mount=recipe.mount)
            simulated.simulate_dataset(folder, cells, side, options=mount)
        values = json.loads(source.read_text())
        values["classes"] = list(recipe.classes)
        values["label_map"] = {str(k): v for k, v in recipe.label_map.items()}
        for case in values["cases"]:
            for key in ("image", "label"):
                case[key] = str((source.parent / case[key]).resolve())
    else:
        dataset, meaning = TASKS[recipe.task]
        rows = json.loads((data / "manifest.json").read_text())
        cases = [
            case
            for row in rows
            if row["dataset"] == dataset
            for case in cases_of(row, data.resolve(), recipe.task)
        ]
        values = datalist(recipe.task, meaning, cases)
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n")
    return path


def folds_of(recipe: Recipe, path: Path) -> list[Fold]:
    """Return the folds; the held-out side is called validation here."""
    cases = load_datalist(path)
    if recipe.folds is None:
        return leave_one_group_out(cases)
    return grouped_folds(cases, recipe.folds)


def write_fold(path: Path, held: Sequence[str], out: Path) -> Path:
    """Write a datalist in which the held-out cases are for testing, and no more.

    No score on them chooses weights or ends a training.
    """
    values: Values = json.loads(path.read_text())
    for case in values["cases"]:
        case.pop("split", None)
        if case["name"] in held:
            case["split"] = "test"
    out.write_text(json.dumps(values, indent=1) + "\n")
    return out

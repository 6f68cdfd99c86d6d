"""The data that each recipe is measured on, and the folds of its cases."""

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
    """One class against all others, by which labels are scored.

    Parameters
    ----------
    name : str
        The name of the class in the table.
    rename : mapping of int to int
        The new index, 0 or 1, of a class. Classes that it does not hold are kept.
    published : str
        The score that the original publication reports on its own data.
    """

    name: str
    rename: Mapping[int, int] = field(default_factory=dict)
    published: str = ""


@dataclass(frozen=True)
class Recipe:
    """A bundle, the data in place of the original's, and what is scored.

    Parameters
    ----------
    bundle : str
        The name of the bundle.
    task : str
        One of `datalists.TASKS`, or ``"simulated"``.
    measures : tuple of Measure
    folds : int or None
        The number of grouped folds. When None, each case is left out once.
    classes : tuple of str
        The names of the classes of simulated cells.
    label_map : mapping of int to int
        The class of each label value of simulated cells.
    roc : bool
        Whether the threshold is the point of the training images' ROC curve where
        Dice is largest.
    objects : {"", "components", "instances"}
        ``"components"`` scores connected components of truth and prediction;
        ``"instances"`` splits touching objects and scores them against the true ids.
    settings : tuple of str
        Texts ``KEY=VALUE`` that change the bundle's training config.
    trained : str
        The name of the recipe whose networks predict; when empty, its own do.
    axes : str or None
        Axes along which slices are predicted and fused. When None, the bundle's own.
    flips : bool
        Whether to predict flipped and turned copies as well.
    mount : {"capillary", "grid"}
        Whether simulated cells are round and imaged from all sides, or flat and imaged
        with a missing wedge.
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
# The bundle's own learning rate is meant for pretrained filters.
FRESH = "optimizer::lr=0.002"
SHALLOW = replace(CASCADE, settings=("network_def::stage=unet", NARROW, FRESH))
# All volumes are scaled alike, from linear absorption coefficients in 1/um.
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


# Variations of the cascade: shallower networks, and additions to them.
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
    """Write the datalist of a recipe's data and return its path.

    Simulated cells are made if they do not exist.
    """
    path = out / "datalist.json"
    if recipe.task == "simulated":
        # All recipes with simulated cells share one set of them.
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
    """Return the folds. The held-out cases of a `Fold` are called validation."""
    cases = load_datalist(path)
    if recipe.folds is None:
        return leave_one_group_out(cases)
    return grouped_folds(cases, recipe.folds)


def write_fold(path: Path, held: Sequence[str], out: Path) -> Path:
    """Write a datalist in which the held-out cases are marked for testing only.

    So no score on them chooses weights or ends a training.
    """
    values: Values = json.loads(path.read_text())
    for case in values["cases"]:
        case.pop("split", None)
        if case["name"] in held:
            case["split"] = "test"
    out.write_text(json.dumps(values, indent=1) + "\n")
    return out

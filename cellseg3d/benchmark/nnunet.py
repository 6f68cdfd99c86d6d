"""Run nnU-Net v2 for comparison: find its Python, write its files, start its runs."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellseg3d.benchmark import nnunet_driver
from cellseg3d.benchmark.curve import POINTS, curve_folders
from cellseg3d.benchmark.dataset import WrittenFold
from cellseg3d.benchmark.outcome import (
    PREDICTED,
    TRAINED,
    NotAvailable,
    Predicted,
    Trained,
    read_facts,
)
from cellseg3d.benchmark.process import Cost, run_process
from cellseg3d.benchmark.study import Budget
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Case
from cellseg3d.datasets.volumes import case_classes, read_case_label
from cellseg3d.io.registry import read_volume

LOG = "log.txt"
COMMAND = "nnUNetv2_train"


def find_python(given: Path | None) -> Path:
    """Return a Python interpreter in which nnU-Net v2 is installed.

    Parameters
    ----------
    given : Path or None
        The interpreter that the user named. When None, the one beside the command
        ``nnUNetv2_train`` is taken, otherwise the one that runs this code.

    Raises
    ------
    NotAvailable
        If no such interpreter is found.
    """
    if given is not None:
        if not given.exists():
            raise NotAvailable(f"--nnunet-python {given}: does not exist")
        return given
    command = shutil.which(COMMAND)
    if command is not None:
        beside = Path(command).resolve().parent / "python"
        if beside.exists():
            return beside
    if find_spec("nnunetv2") is not None:
        return Path(sys.executable)
    message = (
        f"nnU-Net is not here ({COMMAND} is not on the path); install nnunetv2 and "
        "name its interpreter with --nnunet-python"
    )
    raise NotAvailable(message)


def train_nnunet(
    python: Path,
    configuration: str,
    fold: WrittenFold,
    folder: Path,
    *,
    budget: Budget,
    settings: Mapping[str, Any],
) -> Trained:
    """Plan, preprocess and train; the time of preprocessing does not count.

    Parameters
    ----------
    python : Path
        An interpreter in which ``nnunetv2`` is installed.
    configuration : str
        ``"2d"`` or ``"3d_fullres"``.
    fold : WrittenFold
    folder : Path
        The folder of the job.
    budget : Budget
    settings : mapping
        ``memory_gb``: the GPU memory that the planner is told of, in GB.

    Raises
    ------
    CellSegError
        If nnU-Net fails.
    """
    write_raw(fold, folder)
    memory = settings.get("memory_gb")
    told = [] if memory is None else ["--memory-gb", str(memory)]
    _drive(python, folder, ["prepare", "--configuration", configuration, *told])
    words = ["train", "--configuration", configuration]
    words += ["--minutes", str(budget.minutes), "--seed", str(budget.seed)]
    words += ["--clock", budget.clock, "--points", str(POINTS)]
    cost = _drive(python, folder, words)
    facts = read_facts(folder / TRAINED)
    notes = list(facts["warnings"])
    if any(_spacing(case) is None for case in fold.training):
        notes.append("nnU-Net was told isotropic voxels: the voxel size is unknown")
    patch = " x ".join(map(str, facts["patch"]))
    notes.append(
        f"nnU-Net {configuration} was planned by its own planner for "
        f"{memory or 8:g} GB: {facts['batch']} patches of {patch}"
    )
    return Trained(
        cost,
        facts["steps"],
        facts["voxels"],
        facts["parameters"],
        tuple(notes),
        facts["versions"],
    )


def predict_nnunet(
    python: Path, configuration: str, fold: WrittenFold, folder: Path
) -> Predicted:
    """Predict the held-out cases as nnU-Net does, without test-time mirroring."""
    cost = _drive(python, folder, ["predict", "--configuration", configuration])
    done = read_facts(folder / PREDICTED)["volumes"]
    names = {case_id(number): case.name for number, case in enumerate(fold.tests)}
    labels = {names[found]: facts["labels"] for found, facts in done.items()}
    return Predicted(cost, labels, sum(facts["elapsed_s"] for facts in done.values()))


def curve_nnunet(
    python: Path, configuration: str, fold: WrittenFold, folder: Path
) -> list[dict[str, str]]:
    """Predict the validation cases with each of the weights that were kept."""
    _drive(python, folder, ["curve", "--configuration", configuration])
    names = {case_id(number): case.name for number, case in enumerate(fold.validation)}
    return [
        {name: str(place / f"{found}.tif") for found, name in names.items()}
        for place in curve_folders(folder)
    ]


def write_raw(fold: WrittenFold, folder: Path) -> None:
    """Write the training cases and the other images in nnU-Net's format."""
    raw = folder / "raw" / nnunet_driver.DATASET
    images, labels = raw / "imagesTr", raw / "labelsTr"
    others = {"held_out": fold.tests, "validation": fold.validation}
    for place in (images, labels, *(folder / name for name in others)):
        place.mkdir(parents=True, exist_ok=True)
    names = {name: index for index, name in enumerate(fold.datalist.classes)}
    names["background"] = names.pop(fold.datalist.classes[0])
    ignored = False
    for number, case in enumerate(fold.training):
        truth = read_case_label(case, fold.datalist)
        classes = case_classes(truth.read(), fold.datalist, case, truth.name)
        ignored |= bool((classes == IGNORE).any())
        # nnU-Net requires that its label "ignore" follows the last class.
        values = np.where(classes == IGNORE, len(fold.datalist.classes), classes)
        _write(labels, case_id(number), values.astype(np.uint8), _spacing(case), "")
        image = read_volume(case.image, **case.opening).read()
        _write(images, case_id(number), image, _spacing(case), "_0000")
    for name, cases in others.items():
        for number, case in enumerate(cases):
            image = read_volume(case.image, **case.opening).read()
            _write(folder / name, case_id(number), image, _spacing(case), "_0000")
    description = {
        "channel_names": {"0": "microscopy"},
        "labels": names | ({"ignore": len(names)} if ignored else {}),
        "numTraining": len(fold.training),
        "file_ending": ".tif",
    }
    (raw / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def case_id(number: int) -> str:
    """Return the name of a case in nnU-Net's folders."""
    return f"case{number:03d}"


def _write(
    folder: Path, name: str, array: np.ndarray, spacing: Spacing | None, channel: str
) -> None:
    tifffile.imwrite(folder / f"{name}{channel}.tif", array, compression="zlib")
    zyx = (1.0, 1.0, 1.0) if spacing is None else spacing.zyx
    text = json.dumps({"spacing": list(zyx)})
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


def _spacing(case: Case) -> Spacing | None:
    return case.spacing or read_volume(case.image, **case.opening).spacing


def _drive(python: Path, folder: Path, words: Sequence[str]) -> Cost:
    script = str(Path(nnunet_driver.__file__).resolve())
    place = ["--work", str(folder.resolve())]
    return run_process([str(python), script, *words, *place], folder / LOG)

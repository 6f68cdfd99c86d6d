"""Train and predict with other tools, on the same folds and with the same budget."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.benchmark.curve import Snapshot, curve_folders, read_snapshots
from cellseg3d.benchmark.dataset import WrittenFold
from cellseg3d.benchmark.nnunet import (
    curve_nnunet,
    find_python,
    predict_nnunet,
    train_nnunet,
)
from cellseg3d.benchmark.outcome import (
    PREDICTED,
    TRAINED,
    Predicted,
    Trained,
    read_facts,
)
from cellseg3d.benchmark.process import run_process
from cellseg3d.benchmark.study import Budget

LOG = "log.txt"
STOCK = "cellseg3d.benchmark.stock_monai"
KEPT = "snapshots"


def train_peer(
    peer: str,
    fold: WrittenFold,
    folder: Path,
    *,
    budget: Budget,
    python: Path | None,
    settings: Mapping[str, Any],
) -> Trained:
    """Train another tool on all but the held-out cases of a fold.

    Parameters
    ----------
    peer : str
        Tool and configuration, such as ``"monai-2d"`` or ``"nnunet-3d_fullres"``.
    fold : WrittenFold
    folder : Path
        The folder of the job.
    budget : Budget
    python : Path or None
        An interpreter in which nnU-Net is installed.
    settings : mapping
        Settings of the tool, as `cellseg3d.benchmark.study.PEER_SETTINGS` names them.

    Raises
    ------
    NotAvailable
        If the tool is not installed.
    CellSegError
        If the tool ends with an error.
    """
    tool, _, configuration = peer.partition("-")
    if tool == "nnunet":
        found = find_python(python)
        return train_nnunet(
            found, configuration, fold, folder, budget=budget, settings=settings
        )
    words = [*_stock("train", configuration, fold, folder)]
    words += ["--seed", str(budget.seed), "--minutes", str(budget.minutes)]
    for name, value in settings.items():
        words += [f"--{name}", str(value)]
    cost = run_process([*words, "--clock", budget.clock], folder / LOG)
    facts = read_facts(folder / TRAINED)
    return Trained(
        cost,
        facts["steps"],
        facts["voxels"],
        facts["parameters"],
        tuple(facts["warnings"]),
        facts["versions"],
    )


def predict_peer(
    peer: str, fold: WrittenFold, folder: Path, *, python: Path | None
) -> Predicted:
    """Predict the held-out cases with the network that `train_peer` trained."""
    tool, _, configuration = peer.partition("-")
    if tool == "nnunet":
        return predict_nnunet(find_python(python), configuration, fold, folder)
    words = _stock("predict", configuration, fold, folder)
    names = [case.name for case in fold.tests]
    cost = run_process([*words, "--cases", *names], folder / LOG)
    done = read_facts(folder / PREDICTED)["volumes"]
    return Predicted(
        cost,
        {name: facts["labels"] for name, facts in done.items()},
        sum(facts["elapsed_s"] for facts in done.values()),
    )


def curve_peer(
    peer: str, fold: WrittenFold, folder: Path, *, python: Path | None
) -> Sequence[tuple[Snapshot, dict[str, str]]]:
    """Predict the validation cases with each of the weights that the training kept.

    Returns
    -------
    sequence of (Snapshot, dict)
        With each snapshot the path of the label file of each case.
    """
    tool, _, configuration = peer.partition("-")
    if tool == "nnunet":
        labels = curve_nnunet(find_python(python), configuration, fold, folder)
        return list(zip(read_snapshots(folder), labels, strict=True))
    words = _stock("curve", configuration, fold, folder)
    names = [case.name for case in fold.validation]
    run_process([*words, "--cases", *names], folder / LOG)
    labels = [
        {name: str(place / f"{name}.tif") for name in names}
        for place in curve_folders(folder)
    ]
    return list(zip(read_snapshots(folder / KEPT), labels, strict=True))


def _stock(verb: str, kind: str, fold: WrittenFold, folder: Path) -> list[str]:
    words = [sys.executable, "-m", STOCK, verb, "--kind", kind]
    return [*words, "--fold", str(fold.path), "--out", str(folder)]

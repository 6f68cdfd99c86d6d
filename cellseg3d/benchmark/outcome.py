"""The results of a training and of a prediction, the same for every tool."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellseg3d.benchmark.process import Cost
from cellseg3d.core.errors import CellSegError

TRAINED = "trained.json"
PREDICTED = "predicted.json"


class NotAvailable(CellSegError):  # noqa: N818 - it ends a job, not the program
    """A tool that a method needs is not installed, so the job is skipped."""


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Parameters
    ----------
    cost : Cost
        Cost of the training process.
    steps : int
        Number of optimiser steps.
    voxels : int
        Number of voxels whose labels the steps saw, each as often as it was drawn.
    parameters : int
        Number of parameters of the network.
    warnings : tuple of str
    versions : dict of str to str
        Versions of Python and of the libraries that ran the training.
    """

    cost: Cost
    steps: int
    voxels: int
    parameters: int
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Predicted:
    """The result of a prediction: a label file for every held-out case.

    Parameters
    ----------
    cost : Cost
        Cost of the prediction process, including the start of the program.
    labels : dict of str to str
        Path of the label file of each case.
    volumes_s : float
        Seconds spent on the volumes alone, without the start of the program.
    """

    cost: Cost
    labels: dict[str, str]
    volumes_s: float


def read_facts(path: Path) -> dict[str, Any]:
    """Read the JSON file that a training or a prediction has written.

    Raises
    ------
    CellSegError
        If the file does not exist, since the program then ended before its work was
        done.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        message = f"{path}: was not written; read the log beside it"
        raise CellSegError(message) from error
    return facts

"""What a method hands back, whoever trained it: labels, costs, size."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellseg3d.benchmark.process import Cost
from cellseg3d.core.errors import CellSegError

TRAINED = "trained.json"
PREDICTED = "predicted.json"


class NotAvailable(CellSegError):  # noqa: N818 - it ends a job, not the program
    """A tool that a method needs is not installed; the job is skipped."""


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Parameters
    ----------
    cost : Cost
        Of the training process.
    steps : int
        Steps of the optimiser.
    parameters : int
        Of the network.
    warnings : tuple of str
    versions : dict of str to str
        Of what computed.
    """

    cost: Cost
    steps: int
    parameters: int
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Predicted:
    """Predicted labels of every held-out case.

    Parameters
    ----------
    cost : Cost
        Of the prediction process, loading the program included.
    labels : dict of str to str
        Case to label file.
    volumes_s : float
        Time for the volumes alone.
    """

    cost: Cost
    labels: dict[str, str]
    volumes_s: float


def read_facts(path: Path) -> dict[str, Any]:
    """Read the JSON that a training or a prediction left.

    Raises
    ------
    CellSegError
        If it is not there: the program ended without finishing its work.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        message = f"{path}: was not written; read the log beside it"
        raise CellSegError(message) from error
    return facts

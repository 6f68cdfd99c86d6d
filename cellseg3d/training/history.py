"""Record the losses and scores of a training, and which validation is the best."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines.trainer import SupervisedTrainer
from monai.utils.enums import CommonKeys
from torch import Tensor

from cellseg3d.core.atomic import write_text
from cellseg3d.training.scores import RECALL


class History:
    """A row for each epoch, the best validation, and the loss of the present epoch.

    It is part of the checkpoint, so that a resumed training goes on with the same rows
    and the same best score.

    Parameters
    ----------
    path : str or Path, optional
        JSON file that is written after each epoch.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.rows: list[dict[str, Any]] = []
        self.best_score = float("nan")
        self.best_iteration = -1
        self._losses: list[float] = []

    def attach(self, engine: SupervisedTrainer) -> None:
        """Record a trainer's losses; attach this before validation and checkpoints."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)

    @property
    def epoch_loss(self) -> float:
        """The mean loss of the present epoch; NaN before its first step."""
        return sum(self._losses) / len(self._losses) if self._losses else float("nan")

    @property
    def stale_epochs(self) -> int:
        """The number of validations since the best one."""
        scored = [row["iteration"] for row in self.rows if "score" in row]
        return sum(iteration > self.best_iteration for iteration in scored)

    def add_scores(
        self,
        iteration: int,
        score: float,
        details: Mapping[str, Any],
        recall: Mapping[str, Any] | None = None,
    ) -> bool:
        """Record a validation and return whether it is the best so far.

        Parameters
        ----------
        iteration : int
            Number of the step.
        score : float
            The score; higher is better, and NaN is never the best.
        details : mapping
            Scores of each volume and class.
        recall : mapping, optional
            The result of `scores.recall_of` for each volume and class.
        """
        if not self.rows or self.rows[-1]["iteration"] != iteration:
            self.rows.append({"iteration": iteration})
        self.rows[-1].update(score=_number(score), scores=_numbers(details))
        if recall is not None:
            self.rows[-1][RECALL] = _finite(recall)
        better = not math.isnan(score) and not score <= self.best_score
        if better:
            self.best_score, self.best_iteration = float(score), iteration
        self.write()
        return better

    def write(self) -> None:
        """Write the rows; NaN becomes null."""
        if self.path is None:
            return
        text = json.dumps(self.rows, indent=1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, text + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Return the whole history as plain values."""
        return {
            "rows": json.dumps(self.rows),
            "best_score": self.best_score,
            "best_iteration": self.best_iteration,
            "losses": list(self._losses),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        rows = json.loads(state["rows"])
        if not isinstance(rows, list) or not all(map(_is_row, rows)):
            raise ValueError("its rows are not those of a training")
        self.rows = rows
        self.best_score = float(state["best_score"])
        self.best_iteration = int(state["best_iteration"])
        self._losses = [float(loss) for loss in state["losses"]]

    def _step(self, engine: SupervisedTrainer) -> None:
        loss = _of_all(engine.state.output[CommonKeys.LOSS])
        if math.isfinite(loss):
            self._losses.append(loss)

    def _epoch(self, engine: SupervisedTrainer) -> None:
        rate = float(engine.optimizer.param_groups[0]["lr"])
        self.rows.append(
            {
                "epoch": int(engine.state.epoch),
                "iteration": int(engine.state.iteration),
                "loss": _number(self.epoch_loss),
                "learning_rate": rate,
            }
        )
        self._losses = []
        self.write()


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("iteration"), int)


def _of_all(loss: Tensor) -> float:
    """Return the mean loss of all processes."""
    if idist.get_world_size() == 1:  # This also avoids float64, which MPS lacks.
        return float(loss.detach())
    total = torch.as_tensor(idist.all_reduce(loss.detach().double()))
    return float(total) / idist.get_world_size()


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(key): _numbers(value) if isinstance(value, Mapping) else _number(value)
        for key, value in values.items()
    }


def _finite(value: Any) -> Any:  # noqa: ANN401
    """Return nested values with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return _number(value) if isinstance(value, float) else value

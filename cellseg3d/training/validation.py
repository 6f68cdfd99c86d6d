"""Validate during training, keep the best weights, and stop early if asked to."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines.evaluator import Evaluator
from monai.engines.trainer import SupervisedTrainer
from torch.utils.data import DataLoader

from cellseg3d.core.errors import ConfigError
from cellseg3d.training.history import History
from cellseg3d.training.model_files import ModelFiles
from cellseg3d.training.schedule import Schedule
from cellseg3d.training.scores import RECALL

_FORM = "expected samples with the tensors 'image' and 'label'; restore its entry"
logger = logging.getLogger(__name__)
# The largest share of a time budget for validations before the last one.
_SHARE = 0.1


@contextmanager
def sample_form(key: str) -> Iterator[None]:
    """Name the entry of the config whose items an engine cannot take as samples.

    Raises
    ------
    ConfigError
        If an item is no pair or mapping of tensors.
    """
    try:
        yield
    except ValueError as error:
        if "prepare_batch" not in str(error):
            raise
        raise ConfigError(f"{key}: gives items of another form; {_FORM}") from error


def _check_loader(loader: object) -> None:
    if not isinstance(loader, DataLoader):
        message = (
            f"validate::dataloader: is {loader!r:.80}, which is no DataLoader; {_FORM}"
        )
        raise ConfigError(message)


class Validation:
    """Score whole volumes during training and keep the best weights.

    With a time budget, a validation is left out if all validations would take more than
    a tenth of the time so far. Time for the last validation is reserved. Both use the
    schedule's clock.

    Parameters
    ----------
    evaluator : Evaluator
        The evaluator that predicts and scores the validation volumes.
    history : History
        Where the scores are recorded.
    model_files : ModelFiles
        Where the best weights are written.
    schedule : Schedule
        The schedule, which knows the time budget.
    interval : int
        Number of epochs between validations.
    patience : int, optional
        Number of validations without a better score that end the training; with None
        the training does not end early.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        history: History,
        model_files: ModelFiles,
        schedule: Schedule,
        interval: int = 1,
        patience: int | None = None,
    ) -> None:
        _check_loader(evaluator.data_loader)
        for name, value in (("interval", interval), ("patience", patience)):
            if value is not None and value < 1:
                message = f"train::validation::{name} is {value}; expected 1 or more"
                raise ConfigError(message)
        self.evaluator = evaluator
        self.history = history
        self.model_files = model_files
        self.schedule = schedule
        self.interval = interval
        self.patience = patience
        self.last_iteration = -1
        self.lasted_s: float | None = None
        self.total_s = 0.0
        self._first_step: tuple[int, float] | None = None

    def attach(self, engine: SupervisedTrainer) -> None:
        """Validate between the epochs of a trainer and at its end."""
        every = Events.EPOCH_COMPLETED(every=self.interval)
        engine.add_event_handler(every, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        if self.schedule.budget_s is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._set_aside)

    def __call__(self, engine: SupervisedTrainer) -> None:
        """Validate now if there is time for it."""
        if self._affordable():
            self.run(engine)

    def run(self, engine: SupervisedTrainer) -> None:
        """Validate, save the weights if they are the best, and stop early if due.

        Nothing happens if there are no validation volumes.
        """
        if not self.evaluator.state.epoch_length:
            return
        begun = self.schedule.clock()
        with sample_form("validate::dataset"):
            self.evaluator.run(engine.state.epoch)
        self.last_iteration = engine.state.iteration
        name = self.evaluator.state.key_metric_name
        score = float(self.evaluator.state.metrics[name])
        details = self.evaluator.state.metric_details.get(name, {})
        recall = self.evaluator.state.metric_details.get(RECALL)
        if self.history.add_scores(engine.state.iteration, score, details, recall):
            self.model_files.save_best(engine.state.iteration, score)
        self._took(self.schedule.clock() - begun)
        if self.patience is not None and self.history.stale_epochs >= self.patience:
            logger.info(
                "the training stops, because %d validations brought no better score",
                self.patience,
            )
            engine.terminate()

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last validation."""
        return {"last_iteration": self.last_iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        self.last_iteration = int(state["last_iteration"])

    def _finish(self, engine: SupervisedTrainer) -> None:
        if self.last_iteration != engine.state.iteration:
            self.run(engine)

    def _affordable(self) -> bool:
        if self.schedule.budget_s is None:
            return True
        expected_s = self.schedule.reserve_s
        elapsed_s = self.schedule.elapsed_s
        affordable = self.total_s + expected_s <= _SHARE * elapsed_s
        return bool(_agreed(affordable))

    def _took(self, seconds: float) -> None:
        self.total_s += seconds
        self.lasted_s = seconds
        if self.schedule.budget_s is not None:
            self.schedule.reserve_s = 1.1 * seconds

    def _set_aside(self, engine: SupervisedTrainer) -> None:
        """Reserve time for the last validation, estimated from the time of a step.

        A forward pass takes about a third of a step, and windows overlap about twofold.
        The estimate is used until a validation has been timed.
        """
        if self.lasted_s is not None or engine.state.iteration % 10:
            return
        batch = engine.state.output["image"]
        now = (engine.state.iteration, self.schedule.clock())
        if self._first_step is None:
            self._first_step = now
            return
        steps = now[0] - self._first_step[0]
        step_s = (now[1] - self._first_step[1]) / steps
        per_voxel_s = step_s / 3 * 2 / max(1, batch.shape[0] * batch[0, 0].numel())
        dataset = getattr(self.evaluator.data_loader, "dataset", None)
        voxels = sum(case.image.size for case in getattr(dataset, "cases", ()))
        self.schedule.reserve_s = min(
            voxels * per_voxel_s, 0.4 * (self.schedule.budget_s or 0.0)
        )


def _agreed(answer: bool) -> bool:  # noqa: FBT001
    """Return the first process' answer, so that all processes validate or none."""
    if idist.get_world_size() == 1:
        return answer
    values = [answer]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]

"""Set the learning rate from the share of the training that is done."""

import math
from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from torch.optim import Optimizer

from cellseg3d.core.clock import CLOCKS
from cellseg3d.core.errors import ConfigError

SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    # DeepLab and nnU-Net use this exponent.
    "poly": lambda done: (1 - done) ** 0.9,
    "constant": lambda _done: 1.0,
}


class Schedule:
    """Set the learning rate before each step from the share of the training done.

    The share is counted in steps or, with `max_minutes`, in time if that is further
    along. With `max_minutes` the training ends after that time, validation included,
    and the rate reaches its lowest value then on any machine.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer; its rate now is the highest one.
    shape : {"cosine", "poly", "constant"}
        How the rate falls.
    warmup : float
        Share of the training, in [0, 1), during which the rate rises from a tenth of
        the highest rate.
    max_minutes : float, optional
        Time budget in minutes; with None all epochs are trained.
    epochs : int, optional
        Number of epochs after which the rate is lowest; the trainer's epochs when None.
        It may exceed the trainer's epochs if the training will be continued later.
    final_share : float
        Lowest rate divided by the highest.
    clock : {"wall", "cpu"} or callable
        How seconds are counted: as time that passes, or as processor time of this
        process, which is fairer on a machine that is busy with other work.

    Raises
    ------
    ConfigError
        If a number is out of range or the shape unknown.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        shape: str = "cosine",
        warmup: float = 0.03,
        max_minutes: float | None = None,
        epochs: int | None = None,
        final_share: float = 0.01,
        clock: str | Callable[[], float] = "wall",
    ) -> None:
        if isinstance(clock, str) and clock not in CLOCKS:
            message = f"lr_scheduler clock is {clock!r}; expected {' or '.join(CLOCKS)}"
            raise ConfigError(message)
        if shape not in SHAPES:
            message = f"lr_scheduler shape is {shape!r}; expected {' or '.join(SHAPES)}"
            raise ConfigError(message)
        if not 0 <= warmup < 1:
            message = f"lr_scheduler warmup is {warmup}; expected a share in [0, 1)"
            raise ConfigError(message)
        if max_minutes is not None and not max_minutes > 0:
            message = f"max_minutes is {max_minutes}; expected more than 0"
            raise ConfigError(message)
        if epochs is not None and epochs < 1:
            message = f"lr_scheduler epochs is {epochs}; expected 1 or more"
            raise ConfigError(message)
        if not 0 <= final_share <= 1:
            message = f"lr_scheduler final_share is {final_share}; expected 0 to 1"
            raise ConfigError(message)
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        if not all(0 <= rate < math.inf for rate in rates):
            message = (
                f"optimizer lr is {min(rates)}; expected a finite number, 0 or more"
            )
            raise ConfigError(message)
        self.optimizer = optimizer
        self.shape = shape
        self.warmup = warmup
        self.budget_s = None if max_minutes is None else 60 * max_minutes
        self.epochs = epochs
        self.final_share = final_share
        self.clock = CLOCKS[clock] if isinstance(clock, str) else clock
        self.peaks = rates
        self.elapsed_before_s = 0.0
        self.reserve_s = 0.0
        self.done = 0.0
        self._started_s = self.clock()

    def attach(self, engine: Workflow) -> None:
        """Set the rate before each step of a trainer; end it when the time is up."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.end_in_time)

    def __call__(self, engine: Workflow) -> None:
        """Set the rate of the next step, the same in all processes."""
        self.done = _of_first_rank(self.progress(engine))
        share = self.rate_share(self.done)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * share

    @property
    def elapsed_s(self) -> float:
        """The seconds of training so far, including those before a resume."""
        return self.elapsed_before_s + self.clock() - self._started_s

    def progress(self, engine: Workflow) -> float:
        """Return the share of the training that is done before this step, in [0, 1].

        The clock starts when the schedule is made, so reading the data is included.
        """
        epochs = self.epochs or engine.state.max_epochs
        steps = epochs * engine.state.epoch_length
        done = (engine.state.iteration - 1) / max(steps, 1)
        if self.budget_s is not None:
            usable_s = max(self.budget_s - self.reserve_s, 1e-9)
            done = max(done, self.elapsed_s / usable_s)
        return float(min(1.0, done))

    def rate_share(self, done: float) -> float:
        """Return the rate divided by the highest one, given the share that is done."""
        if done < self.warmup:
            return 0.1 + 0.9 * done / self.warmup
        fall = SHAPES[self.shape]((done - self.warmup) / (1 - self.warmup))
        return self.final_share + (1 - self.final_share) * fall

    def end_in_time(self, engine: Workflow) -> None:
        """End the training when only the time for the last validation is left."""
        if self.budget_s is not None and self.done >= 1.0:
            engine.terminate()

    def state_dict(self) -> dict[str, Any]:
        """Return the time used and the time reserved for validation."""
        return {"elapsed_s": self.elapsed_s, "reserve_s": self.reserve_s}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        self.elapsed_before_s = float(state["elapsed_s"])
        self.reserve_s = float(state["reserve_s"])
        self._started_s = self.clock()


def _of_first_rank(share: float) -> float:
    """Return the first process' share, so that all processes use the same rate."""
    if idist.get_world_size() == 1:
        return share
    value = idist.broadcast(torch.tensor(share, dtype=torch.float64), src=0)
    return float(value)  # type: ignore[arg-type]

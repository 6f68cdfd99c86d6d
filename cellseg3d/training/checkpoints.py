"""Save the whole state of a training, so that it can be resumed with equal results."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow

from cellseg3d.core.atomic import sweep_orphans
from cellseg3d.core.errors import ConfigError, FormatError
from cellseg3d.models.training_state import load_state, save_state
from cellseg3d.training.average import plain_network
from cellseg3d.training.saved_parts import check_fits

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """An object whose state a checkpoint can hold."""

    def state_dict(self) -> Any: ...  # noqa: ANN401, D102
    def load_state_dict(self, state: Any, /) -> Any: ...  # noqa: ANN401, D102


class Checkpoints:
    """Save the state of a training at intervals, and resume from it.

    A checkpoint is written under another name and read back before it replaces the
    previous one, which is kept as ``NAME.prev``. One readable checkpoint therefore
    remains if the process is killed at any moment. A checkpoint holds only tensors and
    plain values, and a hash of them.

    Parameters
    ----------
    path : str or Path
        The file, such as ``RUN/checkpoints/last.pt``.
    parts : mapping of str to object
        The objects with a state: network, optimizer, average, schedule, history, ...
    resume : bool
        Whether to resume from the file if it exists.
    every_s : float
        Seconds after which the state is saved within an epoch.
    at_least_s : float
        Seconds since the last save after which the state is saved at an epoch's end.
    clock : callable
        Function that returns the time in seconds.
    """

    def __init__(
        self,
        path: str | Path,
        parts: Mapping[str, Stateful],
        *,
        resume: bool = False,
        every_s: float = 120.0,
        at_least_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self.parts = dict(parts)
        self.resume = resume
        self.every_s = every_s
        self.at_least_s = at_least_s
        self.clock = clock
        self._saved_s = clock()
        self._saved_iteration = -1

    def attach(self, engine: Workflow) -> None:
        """Save while the trainer runs; attach this after handlers that have a state."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._within_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self.save)

    def save(self, engine: Workflow) -> None:
        """Write the present state; of several processes, the first one writes.

        Raises
        ------
        NonFiniteError
            If a tensor of the state holds NaN or infinity; the old file is kept.
        EnvironmentFault
            If the disk is full or the folder cannot be written; the old file is kept.
        """
        self._saved_s = self.clock()
        if idist.get_rank() != 0:
            return
        content = {
            "iteration": int(engine.state.iteration),
            "epoch_length": int(engine.state.epoch_length),
            "state": {name: part.state_dict() for name, part in _each(self.parts)},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_state(self.path, content)
        self._saved_iteration = int(engine.state.iteration)

    def load(self, engine: Workflow) -> bool:
        """Restore the saved state before the trainer runs; return whether there is one.

        Raises
        ------
        ConfigError
            If the epochs of the saved training have another number of steps.
        FormatError
            If neither the file nor the previous one can be read.
        """
        previous = self.path.with_name(f"{self.path.name}.prev")
        if not (self.path.is_file() or previous.is_file()):
            return False
        saved = load_state(self.path)
        content, length = saved.values, engine.state.epoch_length
        iteration = _known(content, self.parts, saved.path)
        if content["epoch_length"] != length:
            message = (
                f"{self.path}: an epoch had {content['epoch_length']} steps and now "
                f"has {length}; resume with the data and batch size of the first start"
            )
            raise ConfigError(message)
        for name, part in _each(self.parts):
            where = f"{saved.path}: {name}"
            check_fits(content["state"][name], part, where)
            try:
                part.load_state_dict(content["state"][name])
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                message = f"{where}: {error}; use an earlier checkpoint"
                raise FormatError(" ".join(message.split())) from error
        engine.state.iteration = iteration
        engine.state.epoch = iteration // length
        self._saved_iteration = iteration
        logger.info("resumed after step %d", iteration)
        return True

    def _start(self, _engine: Workflow) -> None:
        self._saved_s = self.clock()
        if idist.get_rank() == 0 and self.path.parent.is_dir():
            sweep_orphans(self.path.parent)

    def _within_epoch(self, engine: Workflow) -> None:
        last_step = engine.state.iteration % engine.state.epoch_length == 0
        if not last_step and self.clock() - self._saved_s >= self.every_s:
            self.save(engine)

    def _after_epoch(self, engine: Workflow) -> None:
        if self._saved_iteration < 0 or (
            self.clock() - self._saved_s >= self.at_least_s
        ):
            self.save(engine)


def _known(content: Mapping[str, Any], parts: Mapping[str, Any], path: Path) -> int:
    """Return the number of steps that are done; refuse what no training has written."""
    state, done = content.get("state"), content.get("iteration")
    length = content.get("epoch_length")
    counts = [type(each) is int and each >= 0 for each in (done, length)]
    if not all(counts) or not isinstance(state, Mapping) or {*parts} - {*state}:
        names = ", ".join(sorted(parts))
        message = (
            f"{path}: is no checkpoint of this training, which needs the steps done "
            f"and the states of {names}; use an earlier checkpoint"
        )
        raise FormatError(message)
    return int(content["iteration"])


def _each(parts: Mapping[str, Stateful]) -> Iterator[tuple[str, Stateful]]:
    for name, part in parts.items():
        inner = plain_network(part) if isinstance(part, torch.nn.Module) else part
        yield name, inner

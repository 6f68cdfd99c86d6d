"""The whole state of a training on disk, so that it goes on to the same bits."""

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
from cellseg3d.core.errors import ConfigError
from cellseg3d.models.training_state import load_state, save_state
from cellseg3d.training.average import plain_network

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """What a checkpoint can hold."""

    def state_dict(self) -> Any: ...  # noqa: ANN401, D102
    def load_state_dict(self, state: Any, /) -> Any: ...  # noqa: ANN401, D102


class Checkpoints:
    """Save the state of a training now and then; go on from it.

    A file is written under another name, read back, and only then takes the place of
    the one before, which is kept as ``NAME.prev``: a kill at any moment leaves one
    that loads. It holds tensors and plain values alone, and a hash of all of them.

    Parameters
    ----------
    path : str or Path
        The file, such as ``RUN/checkpoints/last.pt``.
    parts : mapping of str to object
        What has a state: network, optimizer, average, schedule, history, ...
    resume : bool
        Go on from the file when it is there.
    every_s : float
        Within an epoch, save after this many seconds.
    at_least_s : float
        After an epoch, save unless the last save is younger than this.
    clock : callable
        Returns seconds.
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
        """Save while the trainer runs; attach after what changes the state."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._within_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self.save)

    def save(self, engine: Workflow) -> None:
        """Write the state as it is after the present step; one process writes.

        Raises
        ------
        NonFiniteError
            If a tensor of the state holds NaN or infinity; the old file stands.
        EnvironmentFault
            If the disk is full or the folder cannot be written; the old file stands.
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
        """Put the saved state back, before the trainer runs; whether there was one.

        Raises
        ------
        ConfigError
            If the epochs of the two runs are not equally long.
        FormatError
            If neither the file nor the one before can be read.
        """
        previous = self.path.with_name(f"{self.path.name}.prev")
        if not (self.path.is_file() or previous.is_file()):
            return False
        content = load_state(self.path).values
        length = engine.state.epoch_length
        if content["epoch_length"] != length:
            message = (
                f"{self.path}: its epochs had {content['epoch_length']} steps, these "
                f"have {length}; resume with the data and batch size it began with"
            )
            raise ConfigError(message)
        for name, part in _each(self.parts):
            part.load_state_dict(content["state"][name])
        engine.state.iteration = content["iteration"]
        engine.state.epoch = content["iteration"] // length
        self._saved_iteration = content["iteration"]
        logger.info("resumed after step %d", content["iteration"])
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


def _each(parts: Mapping[str, Stateful]) -> Iterator[tuple[str, Stateful]]:
    for name, part in parts.items():
        inner = plain_network(part) if isinstance(part, torch.nn.Module) else part
        yield name, inner

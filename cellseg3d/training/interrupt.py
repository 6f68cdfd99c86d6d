"""On SIGINT and SIGTERM, finish the step, save the training, and stop."""

import logging
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow

logger = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Saver(Protocol):
    """An object that can save itself in the middle of a training."""

    def save(self, engine: Any, /) -> None: ...  # noqa: ANN401, D102


class Interrupt:
    """Save and stop a training after the present step when a signal asks for it.

    A second signal stops it at once; then only the last checkpoint is left.

    Parameters
    ----------
    savers : sequence of object
        Objects with ``save(engine)``, such as the checkpoints.
    """

    def __init__(self, savers: Sequence[Saver]) -> None:
        self.savers = list(savers)
        self.asked_by: int | None = None
        self._before: dict[int, object] = {}

    def attach(self, engine: Workflow) -> None:
        """Handle signals while the trainer runs; attach this after the checkpoints."""
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._within_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._restore)

    def __call__(self, engine: Workflow) -> None:
        """Save and stop if a signal has come.

        Raises
        ------
        KeyboardInterrupt
            If a signal has come; the command line then exits with code 130.
        """
        if not self._asked(engine):
            return
        for saver in self.savers:
            saver.save(engine)
        self._restore(engine)
        message = f"stopped at step {engine.state.iteration}; resume with --resume"
        raise KeyboardInterrupt(message)

    def _within_epoch(self, engine: Workflow) -> None:
        # After the last step of an epoch, handlers of the epoch's end run first.
        if engine.state.iteration % engine.state.epoch_length:
            self(engine)

    def _listen(self, _engine: Workflow) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.asked_by is not None:
            raise KeyboardInterrupt
        self.asked_by = number
        logger.warning(
            "received signal %d; the training saves and stops after this step", number
        )

    def _restore(self, _engine: Workflow) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _asked(self, engine: Workflow) -> bool:
        asked = self.asked_by is not None
        if idist.get_world_size() == 1:
            return asked
        flag = torch.tensor(float(asked), device=engine.state.device)
        return bool(idist.all_reduce(flag, op="MAX") > 0)

"""Show a progress bar with epoch, loss, best score and the time left."""

import math

import ignite.distributed as idist
from ignite.engine import Events
from monai.engines.workflow import Workflow
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from cellseg3d.training.history import History
from cellseg3d.training.schedule import Schedule


class ProgressBar:
    """A progress bar of one line, which the first process shows on the terminal.

    Parameters
    ----------
    history : History
        Losses and scores of the training.
    schedule : Schedule
        The schedule, which gives the share of the training that is done.
    enabled : bool
        Whether to show the bar.
    """

    def __init__(
        self, history: History, schedule: Schedule, *, enabled: bool = True
    ) -> None:
        self.history = history
        self.schedule = schedule
        self.enabled = enabled
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def attach(self, engine: Workflow) -> None:
        """Show the progress of a trainer; attach this after the history."""
        if not self.enabled or idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        for event in (Events.COMPLETED, Events.EXCEPTION_RAISED):
            engine.add_event_handler(event, self._stop)

    def text(self, engine: Workflow, *, ended: bool = False) -> str:
        """Return the text beside the bar."""
        state = engine.state
        parts = [f"epoch {state.epoch}"]
        if not math.isnan(self.history.epoch_loss):
            parts.append(f"loss {self.history.epoch_loss:.4f}")
        if not math.isnan(self.history.best_score):
            parts.append(f"best Dice {self.history.best_score:.4f}")
        left_s = self.left_s()
        if math.isfinite(left_s) and not ended:
            minutes, seconds = divmod(round(left_s), 60)
            parts.append(f"{minutes}:{seconds:02d} left")
        return ", ".join(parts)

    def left_s(self) -> float:
        """Return the expected seconds to the end; infinite at the start."""
        done = self.schedule.done
        if self.schedule.budget_s is not None:
            return max(0.0, self.schedule.budget_s - self.schedule.elapsed_s)
        return self.schedule.elapsed_s * (1 - done) / done if done > 0 else math.inf

    def _start(self, _engine: Workflow) -> None:
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        self._task = self._bar.add_task("reading", total=1.0)
        self._bar.start()

    def _step(self, engine: Workflow) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self.schedule.done, description=self.text(engine)
            )

    def _stop(self, engine: Workflow, error: BaseException | None = None) -> None:
        if self._bar is not None:
            if error is None:
                text = self.text(engine, ended=True)
                self._bar.update(self._task, completed=1.0, description=text)
            self._bar.stop()
            self._bar = None
        if error is not None:
            raise error

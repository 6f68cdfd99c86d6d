"""Keep the weights of a training of this package at equal shares of its time."""

from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines.workflow import Workflow

from cellseg3d.benchmark.curve import POINTS, next_share, write_snapshots
from cellseg3d.models.checkpoint import save_weights
from cellseg3d.training.model_files import ModelFiles
from cellseg3d.training.schedule import Schedule

FOLDER = "snapshots"


class Snapshots:
    """A handler that writes the averaged weights at equal shares of the training.

    The time that writing takes is not counted as training.

    Parameters
    ----------
    model_files : ModelFiles
        What writes the weights of the training; the snapshots lie in a subfolder.
    schedule : Schedule
        The schedule, which knows the share of the training that is done.
    """

    def __init__(self, model_files: ModelFiles, schedule: Schedule) -> None:
        self.model_files = model_files
        self.schedule = schedule
        self.folder = Path(model_files.folder) / FOLDER
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Workflow) -> None:
        """Look after every step of a trainer, and write the last weights at its end."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def __call__(self, engine: Workflow) -> None:
        """Write the weights if the next share of the training is done."""
        share = self.schedule.progress(engine)
        if len(self.rows) < POINTS - 1 and share >= next_share(len(self.rows)):
            begun = self.schedule.clock()
            self._write(engine, share)
            self.schedule.elapsed_before_s -= self.schedule.clock() - begun

    def _finish(self, engine: Workflow) -> None:
        self._write(engine, 1.0)

    def _write(self, engine: Workflow, share: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{len(self.rows)}.safetensors"
        facts = {"facts": self.model_files.facts.as_dict()}
        state = self.model_files.network.state_dict()
        save_weights(self.folder / name, state, facts)
        self.rows.append(
            {
                "weights": name,
                "share": share,
                "steps": int(engine.state.iteration),
                "spent_s": self.schedule.elapsed_s,
            }
        )
        write_snapshots(self.rows, self.folder)

"""A training from start to end: lock, resume, run, record."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
from monai.engines.trainer import SupervisedTrainer
from monai.engines.workflow import Workflow

from cellseg3d.bundle.trust import trusted_names
from cellseg3d.core.errors import CellSegError
from cellseg3d.datasets.volumes import LoadedFold
from cellseg3d.runs.lock import RunLock
from cellseg3d.runs.record import RunRecord
from cellseg3d.training.checkpoints import Checkpoints
from cellseg3d.training.doctor_notes import kept_notes
from cellseg3d.training.epochs import InWorkers
from cellseg3d.training.history import History
from cellseg3d.training.step import skipped_batches

logger = logging.getLogger(__name__)


class Part(Protocol):
    """What follows an engine."""

    def attach(self, engine: Any, /) -> None: ...  # noqa: ANN401, D102


class AttachInOrder:
    """A handler that attaches parts, each of which is an id of its own in the config.

    The order is the order in which they act at each event.

    Parameters
    ----------
    parts : sequence of object
        Each with ``attach(engine)``.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)

    def attach(self, engine: Workflow) -> None:
        """Attach all."""
        for part in self.parts:
            part.attach(engine)


def run_training(
    trainer: SupervisedTrainer,
    checkpoints: Checkpoints,
    history: History,
    run_dir: str,
    *,
    data: LoadedFold | None = None,
    seed: int | None = None,
) -> None:
    """Train, in a folder that belongs to this run, and record what it was and cost.

    Parameters
    ----------
    trainer : SupervisedTrainer
    checkpoints : Checkpoints
        Resumes when it was told to and a checkpoint is there.
    history : History
    run_dir : str
        Where lock, checkpoints and ``run.json`` lie.
    data : LoadedFold, optional
        Whose cases, content hashes and warnings the record repeats.
    seed : int, optional
        For the record.

    Raises
    ------
    EnvironmentFault
        If another run holds the folder.
    KeyboardInterrupt
        If a signal asked it to stop; its state is saved.
    """
    if idist.get_rank() != 0:
        _run(trainer, checkpoints)
        return
    with RunLock(Path(run_dir)):
        facts = {"seed": seed, "trusted": trusted_names()}
        record = RunRecord(run_dir, {**facts, **_data_facts(data, run_dir)})
        record.start()
        state = "failed"
        try:
            _run(trainer, checkpoints)
            state = "completed"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        except CellSegError as error:
            record.values["error"] = str(error)
            raise
        finally:
            record.end(
                state,
                iteration=int(trainer.state.iteration),
                epoch=int(trainer.state.epoch),
                best_score=history.best_score,
                best_iteration=history.best_iteration,
                history=history.rows,
                skipped_batches=skipped_batches(trainer),
            )


def _data_facts(data: LoadedFold | None, run_dir: str) -> dict[str, Any]:
    if data is None:
        return {}
    sides = {"training": data.training, "validation": data.validation}
    return {
        "data": {
            "datalist": str(data.datalist.where),
            "classes": list(data.datalist.classes),
            **{side: [case.name for case in cases] for side, cases in sides.items()},
            "content": data.hashes,
        },
        "warnings": [*data.warnings, *kept_notes(Path(run_dir))],
    }


def _run(trainer: SupervisedTrainer, checkpoints: Checkpoints) -> None:
    resumed = checkpoints.resume and checkpoints.load(trainer)
    steps = trainer.state.max_epochs * trainer.state.epoch_length
    # Ignite would begin a finished training anew.
    if resumed and trainer.state.iteration >= steps:
        logger.info("all %d steps were done before", steps)
        return
    try:
        trainer.run()
    finally:
        if isinstance(trainer.data_loader, InWorkers):
            trainer.data_loader.close()

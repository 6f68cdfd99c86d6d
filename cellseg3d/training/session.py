"""Run a training from start to end: lock its folder, resume, train and record it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
from monai.engines.trainer import SupervisedTrainer
from monai.engines.workflow import Workflow

from cellseg3d.bundle.trust import trusted_names
from cellseg3d.core.errors import CellSegError, ConfigError, InputError
from cellseg3d.datasets.volumes import LoadedFold
from cellseg3d.runs.lock import RunLock
from cellseg3d.runs.record import RunRecord, changed_data
from cellseg3d.training.checkpoints import Checkpoints
from cellseg3d.training.doctor_notes import kept_notes
from cellseg3d.training.epochs import InWorkers
from cellseg3d.training.history import History
from cellseg3d.training.step import skipped_batches
from cellseg3d.training.validation import sample_form

logger = logging.getLogger(__name__)


class Part(Protocol):
    """An object that can be attached to an engine."""

    def attach(self, engine: Any, /) -> None: ...  # noqa: ANN401, D102


class AttachInOrder:
    """A handler that attaches other handlers in a given order.

    At each event they act in this order. Each of them has its own key in the config.

    Parameters
    ----------
    parts : sequence of object
        Objects with ``attach(engine)``.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)

    def attach(self, engine: Workflow) -> None:
        """Attach all parts to an engine."""
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
    """Lock a run folder, train, and write a record of the training and its cost.

    Parameters
    ----------
    trainer : SupervisedTrainer
        The trainer, ready to run.
    checkpoints : Checkpoints
        The checkpoints; the training is resumed if they say so and one exists.
    history : History
        Losses and scores of the training.
    run_dir : str
        The folder of lock, checkpoints and ``run.json``.
    data : LoadedFold, optional
        The data, whose cases, content hashes and warnings are recorded.
    seed : int, optional
        The seed, which is recorded.

    Raises
    ------
    EnvironmentFault
        If another process has locked the folder.
    KeyboardInterrupt
        If a signal asked the training to stop; its state is saved.
    """
    if idist.get_rank() != 0:
        _run(trainer, checkpoints)
        return
    with RunLock(Path(run_dir)):
        if checkpoints.resume and data is not None:
            _refuse_changed(Path(run_dir), data)
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


def _refuse_changed(folder: Path, data: LoadedFold) -> None:
    """Refuse to continue if images or labels have changed since the start.

    Raises
    ------
    InputError
        If one has changed.
    """
    now = {"content": data.hashes, "label_content": data.label_hashes}
    changed = changed_data(folder, now)
    if changed:
        listed = ", ".join(changed[:8]) + ", ..." * (len(changed) > 8)
        message = (
            f"{data.datalist.where}: has changed since the training began: {listed}; "
            f"give `data` {data.datalist.where} to continue with it, or start a new run"
        )
        raise InputError(message)


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
            "label_content": data.label_hashes,
            "scaled_from": data.limits,
        },
        "warnings": [*data.warnings, *kept_notes(Path(run_dir))],
    }


def _refuse_endless(epochs: object) -> None:
    """Refuse a number of epochs that an expression in a config makes, if it is none.

    Raises
    ------
    ConfigError
        If it is no whole number above 0; without one a training would never end.
    """
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        message = f"train::trainer::max_epochs is {epochs}; expected 1 or more"
        raise ConfigError(message)


def _run(trainer: SupervisedTrainer, checkpoints: Checkpoints) -> None:
    _refuse_endless(trainer.state.max_epochs)
    resumed = checkpoints.resume and checkpoints.load(trainer)
    steps = trainer.state.max_epochs * trainer.state.epoch_length
    # Ignite would start a finished training again.
    if resumed and trainer.state.iteration >= steps:
        logger.info("nothing is left to train: all %d steps are done", steps)
        return
    try:
        with sample_form("train::dataset"):
            trainer.run()
    finally:
        if isinstance(trainer.data_loader, InWorkers):
            trainer.data_loader.close()

"""Train the weights of a bundle: on all volumes, and with each part left out."""

import _thread
import json
import logging
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg3d.bundle.shipped import weights_file
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.runs.folder import TrainOptions
from cellseg3d.runs.record import NAME
from cellseg3d.training.train import resume, train
from cellseg3d.weights.recipe import FINAL, WeightsRecipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One of the trainings that a recipe asks for.

    Parameters
    ----------
    name : str
        ``"final"``, on all volumes, or ``"without_X"``.
    left_out : str or None
        The group of cases that it never sees and is scored on.
    run : Path
        Its run folder.
    steps : int
        How many steps it is planned to take.
    """

    name: str
    left_out: str | None
    run: Path
    steps: int

    @property
    def record(self) -> dict[str, Any]:
        """What ``run.json`` says; empty before the first step."""
        path = self.run / NAME
        if not path.is_file():
            return {}
        return dict(json.loads(path.read_text(encoding="utf-8")))

    @property
    def is_complete(self) -> bool:
        """Whether its training has come to its end."""
        return self.record.get("state") == "completed"

    @property
    def has_weights(self) -> bool:
        """Whether it has weights that can be scored."""
        return weights_file(self.run).is_file()


def parts_of(recipe: WeightsRecipe, datalist: Path, out: Path) -> list[Part]:
    """Return the trainings of a recipe, the one on all volumes first."""
    parts = [Part(FINAL, None, out / FINAL, recipe.steps)]
    if recipe.leave_out == "none":
        return parts
    cases = load_datalist(datalist).cases
    groups = dict.fromkeys(case.group for case in cases if case.split is None)
    return parts + [
        Part(f"without_{group}", group, out / f"without_{group}", recipe.left_out_steps)
        for group in groups
    ]


def choose_parts(parts: Sequence[Part], only: str | None) -> list[Part]:
    """Return the parts that a user names, or all.

    Raises
    ------
    ConfigError
        If there is no such part.
    """
    if only is None:
        return list(parts)
    chosen = [part for part in parts if only in (part.name, part.left_out)]
    if not chosen:
        known = ", ".join(part.name for part in parts)
        raise ConfigError(f"--only {only!r}: is no part of this training; try {known}")
    return chosen


def train_part(
    part: Part,
    recipe: WeightsRecipe,
    bundle: Path,
    datalist: Path,
    options: TrainOptions | None = None,
) -> None:
    """Begin or go on with one training.

    Parameters
    ----------
    part : Part
    recipe : WeightsRecipe
    bundle : Path
        The bundle whose network is trained.
    datalist : Path
    options : TrainOptions, optional
        Device, workers, and a time budget that replaces the steps.

    Raises
    ------
    KeyboardInterrupt
        If a signal asked it to stop; calling it again goes on.
    """
    wanted = options or TrainOptions()
    if (part.run / "checkpoints" / "last.pt").is_file():
        resume(part.run, TrainOptions(progress=wanted.progress, calibrate=False))
        return
    settings = dict(recipe.settings)
    batch = settings.get("train::dataloader::batch_size")
    samples = settings.get("train::dataset::samples")
    if batch is None or samples is None:
        message = (
            f"{recipe.name}: its settings give no train::dataloader::batch_size and "
            "train::dataset::samples; both say how many steps an epoch has"
        )
        raise ConfigError(message)
    epochs = max(1, round(part.steps * int(batch) / int(samples)))
    train(
        bundle,
        datalist,
        part.run,
        TrainOptions(
            fold=part.left_out or "none",
            epochs=epochs if wanted.minutes is None else None,
            minutes=wanted.minutes,
            device=wanted.device,
            workers=wanted.workers,
            precision=wanted.precision,
            target=recipe.target,
            progress=wanted.progress,
            calibrate=False,
            settings=settings,
        ),
    )


class StopAfter:
    """Ask the training under way to save and stop after some minutes.

    Parameters
    ----------
    minutes : float or None
        None never asks.
    """

    def __init__(self, minutes: float | None) -> None:
        self.rang = False
        self.timer: threading.Timer | None = None
        if minutes is not None:
            self.timer = threading.Timer(60 * minutes, self._ask)
            self.timer.daemon = True

    def __enter__(self) -> "StopAfter":
        if self.timer is not None:
            self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def _ask(self) -> None:
        """Send the signal that a training answers by saving its state."""
        self.rang = True
        _thread.interrupt_main(signal.SIGTERM)

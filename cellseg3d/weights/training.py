"""Train the weights of a bundle on all volumes, and with each group left out."""

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
from cellseg3d.runs.options import TrainOptions
from cellseg3d.runs.record import NAME
from cellseg3d.training.train import resume, train
from cellseg3d.weights.members import fuse_members
from cellseg3d.weights.recipe import FINAL, WeightsRecipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One of the trainings that a recipe asks for.

    Parameters
    ----------
    name : str
        ``"final"`` for the training on all volumes, else ``"without_X"``.
    left_out : str or None
        The group of cases that it is not trained on, but scored on.
    run : Path
        The folder of its run.
    steps : int
        The number of steps that are planned.
    """

    name: str
    left_out: str | None
    run: Path
    steps: int

    @property
    def record(self) -> dict[str, Any]:
        """The values of ``run.json``; empty before the first step."""
        path = self.run / NAME
        if not path.is_file():
            return {}
        return dict(json.loads(path.read_text(encoding="utf-8")))

    @property
    def is_complete(self) -> bool:
        """Whether its training has ended."""
        return self.record.get("state") == "completed"

    @property
    def has_weights(self) -> bool:
        """Whether its run has weights that can be scored."""
        return weights_file(self.run).is_file()


def parts_of(recipe: WeightsRecipe, datalist: Path, out: Path) -> list[Part]:
    """Return the trainings of a recipe; the one on all volumes comes first."""
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
    """Return the part that a user names, or all parts.

    Raises
    ------
    ConfigError
        If there is no part of that name.
    """
    if only is None:
        return list(parts)
    chosen = [part for part in parts if only in (part.name, part.left_out)]
    if not chosen:
        known = ", ".join(part.name for part in parts)
        message = f"`only` is {only!r}; expected a part of this training: {known}"
        raise ConfigError(message)
    return chosen


def train_part(
    part: Part,
    recipe: WeightsRecipe,
    bundle: Path,
    datalist: Path,
    options: TrainOptions | None = None,
) -> None:
    """Begin or continue one training.

    Parameters
    ----------
    part : Part
    recipe : WeightsRecipe
    bundle : Path
        The bundle whose network is trained.
    datalist : Path
    options : TrainOptions, optional
        The device, the workers, and minutes that replace the number of steps.

    Raises
    ------
    KeyboardInterrupt
        If a signal asked it to stop. Another call continues.
    """
    wanted = options or TrainOptions()
    if recipe.members:
        fuse_members(recipe, bundle, datalist, part.run)
        return
    if (part.run / "checkpoints" / "last.pt").is_file():
        resume(part.run, TrainOptions(progress=wanted.progress, calibrate=False))
        return
    settings = dict(recipe.settings)
    batch = settings.get("train::dataloader::batch_size")
    samples = settings.get("train::dataset::samples")
    if batch is None or samples is None:
        message = (
            f"{recipe.name}: the number of epochs is not known, because the settings "
            f"in configs/weights/{recipe.name}.yaml lack train::dataloader::batch_size "
            "or train::dataset::samples; add both"
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
            pretrained=wanted.pretrained,
            workers=wanted.workers,
            precision=wanted.precision,
            target=recipe.target,
            progress=wanted.progress,
            calibrate=False,
            settings=settings,
        ),
    )


class StopAfter:
    """Ask the training in this block to save and stop after some minutes.

    Parameters
    ----------
    minutes : float or None
        The minutes; when None, the training is never stopped.
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
        """Send the signal on which a training saves its state and stops."""
        self.rang = True
        _thread.interrupt_main(signal.SIGTERM)

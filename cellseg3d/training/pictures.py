"""Write curves of loss and score, and pictures of predictions, for TensorBoard."""

from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Events
from monai.engines.evaluator import Evaluator
from monai.engines.trainer import SupervisedTrainer
from monai.utils.enums import CommonKeys
from numpy.typing import NDArray
from torch import Tensor

from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.core.axes import AXES
from cellseg3d.core.colours import LABEL_COLOURS
from cellseg3d.core.ignore import IGNORE
from cellseg3d.training.scores import RECALL

COLOURS = np.array(LABEL_COLOURS, np.uint8)
_GREY = 128


class TensorBoard:
    """Write scalars at each epoch and pictures of the first volume at each validation.

    Parameters
    ----------
    folder : str or Path
        Folder for ``tensorboard --logdir``.
    facts : ModelFacts or mapping
        Names of the classes.
    evaluator : Evaluator, optional
        The evaluator whose first volume is shown.
    """

    def __init__(
        self,
        folder: str | Path,
        facts: ModelFacts | dict[str, Any],
        evaluator: Evaluator | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.classes = ModelFacts.parse(facts).classes
        self.evaluator = evaluator
        self.writer: Any = None
        self._iteration = 0

    def attach(self, engine: SupervisedTrainer) -> None:
        """Write while a trainer and its evaluator run."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED, self._close)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._show)
            self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._scores)

    def _open(self, _engine: SupervisedTrainer) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - 2 s

        self.folder.mkdir(parents=True, exist_ok=True)
        self.writer = SummaryWriter(str(self.folder))

    def _step(self, engine: SupervisedTrainer) -> None:
        self._iteration = engine.state.iteration
        if self.writer is None:
            return
        rate = engine.optimizer.param_groups[0]["lr"]
        loss = float(engine.state.output[CommonKeys.LOSS].detach())
        self.writer.add_scalar("training/loss", loss, self._iteration)
        self.writer.add_scalar("training/learning_rate", rate, self._iteration)

    def _scores(self, engine: Evaluator) -> None:
        if self.writer is None:
            return
        for name, value in engine.state.metrics.items():
            self.writer.add_scalar(f"validation/{name}", value, self._iteration)
        for key, table in engine.state.metric_details.items():
            if key == RECALL:
                continue
            for index, name in enumerate(self.classes[1:]):
                column = [row[name] for row in table.values()]
                defined = [score for score in column if not np.isnan(score)]
                if defined:
                    mean = float(np.mean(defined))
                    tag = f"validation/dice_{index + 1}_{name}"
                    self.writer.add_scalar(tag, mean, self._iteration)

    def _show(self, engine: Evaluator) -> None:
        if self.writer is None or engine.state.iteration != 1:
            return
        output = engine.state.output
        image, label = output[CommonKeys.IMAGE][0, 0], output[CommonKeys.LABEL][0, 0]
        predicted = output[CommonKeys.PRED][0]
        predicted = predicted.argmax(0) if len(predicted) > 1 else predicted[0]
        for axis in range(3):
            picture = picture_across(image, label, predicted, axis)
            tag = f"validation/{AXES[axis]}"
            self.writer.add_image(tag, picture, self._iteration, dataformats="HWC")

    def _close(self, _engine: SupervisedTrainer) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def picture_across(
    image: Tensor, label: Tensor, predicted: Tensor, axis: int
) -> NDArray[np.uint8]:
    """Return the middle slice of image, label, prediction and error, side by side.

    Parameters
    ----------
    image : tensor of float32, shape (Z, Y, X)
        Intensities of any unit.
    label, predicted : tensor, shape (Z, Y, X)
        Class indices; label 255 is not annotated and drawn in grey.
    axis : int
        0, 1 or 2: the slice is cut across z, y or x.

    Returns
    -------
    ndarray of uint8, shape (h, 4 * w, 3)
        RGB; voxels whose classes differ are red in the fourth part.
    """
    middle = image.shape[axis] // 2
    grey, truth, said = (
        np.asarray(torch.as_tensor(part).select(axis, middle).float().cpu())
        for part in (image, label, predicted)
    )
    low, high = np.percentile(grey, [1, 99])
    shown = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)
    base = np.repeat((255 * shown).astype(np.uint8)[..., None], 3, axis=2)
    wrong = base // 2
    unknown = truth == IGNORE
    wrong[(truth != said) & ~unknown] = (255, 0, 0)
    return np.concatenate([base, _coloured(truth), _coloured(said), wrong], axis=1)


def _coloured(labels: NDArray[np.float32]) -> NDArray[np.uint8]:
    index = labels.astype(np.int64)
    place = np.where(index > 0, 1 + (index - 1) % (len(COLOURS) - 1), 0)
    colours = COLOURS[place]
    colours[index == IGNORE] = _GREY
    return colours

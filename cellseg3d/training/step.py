"""Do one step of a training; skip a batch that gives NaN or infinity."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.engines.trainer import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.errors import NonFiniteError
from cellseg3d.models.recipes.imagenet import drop_encoder_gradients

logger = logging.getLogger(__name__)


class TrainingStep:
    """The step of a `monai.engines.SupervisedTrainer`, which skips faulty batches.

    A batch is faulty if its image, loss or gradient holds NaN or infinity. It changes
    neither the weights nor the batch-norm statistics. It is saved to a file, and a
    warning names its volumes.

    Parameters
    ----------
    bad_batch_dir : str or Path
        Folder for faulty batches, created with the first one.
    max_gradient_norm : float, optional
        The gradient is clipped to this norm; None does not clip.
    patience : int
        Number of faulty batches in a row that end the training.
    frozen_epochs : int
        Number of first epochs in which an encoder with weights of ImageNet is not
        trained.
    """

    def __init__(
        self,
        bad_batch_dir: str | Path,
        max_gradient_norm: float | None = 12.0,
        patience: int = 3,
        frozen_epochs: int = 0,
    ) -> None:
        self.bad_batch_dir = Path(bad_batch_dir)
        self.max_gradient_norm = max_gradient_norm
        self.patience = patience
        self.frozen_epochs = frozen_epochs
        self.in_a_row = 0

    def __call__(self, engine: SupervisedTrainer, batch: Any) -> dict[str, Any]:  # noqa: ANN401
        """Do one step and return image, label, prediction and loss.

        Raises
        ------
        NonFiniteError
            If this is the last of `patience` faulty batches in a row.
        """
        prepared = engine.prepare_batch(
            batch, engine.state.device, engine.non_blocking, **engine.to_kwargs
        )
        images, labels = prepared[0], prepared[1]
        output: dict[str, Any] = {CommonKeys.IMAGE: images, CommonKeys.LABEL: labels}
        engine.state.output = output
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        reason = self._descend(engine, images, labels, _partial(batch, images))
        if reason is None:
            self.in_a_row = 0
        else:
            engine.optimizer.zero_grad(set_to_none=True)
            self._record(engine, batch, reason)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def _descend(
        self,
        engine: SupervisedTrainer,
        images: Tensor,
        labels: Tensor,
        partial: dict[str, Tensor],
    ) -> str | None:
        """Do the step; return why the batch is faulty, or None if it is not."""
        output = engine.state.output
        output[CommonKeys.LOSS] = images.new_full((), float("nan"), dtype=torch.float32)
        if _any_rank(not bool(torch.isfinite(images).all()), engine):
            return "the image holds NaN or infinity"
        statistics = [buffer.clone() for buffer in engine.network.buffers()]
        output[CommonKeys.PRED] = engine.inferer(images, engine.network)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        logits = output[CommonKeys.PRED]
        loss = engine.loss_function(logits, labels, **partial).mean()
        output[CommonKeys.LOSS] = loss
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        if _any_rank(not bool(torch.isfinite(loss)), engine):
            _restore(engine.network, statistics)
            return f"the loss is {float(loss.detach())}"
        loss.backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if engine.state.epoch <= self.frozen_epochs:
            drop_encoder_gradients(engine.network)
        norm = nn.utils.clip_grad_norm_(
            engine.network.parameters(), self.max_gradient_norm or float("inf")
        )
        if not bool(torch.isfinite(norm)):
            _restore(engine.network, statistics)
            return f"the gradient is {float(norm)}"
        engine.optimizer.step()
        return None

    def _record(self, engine: SupervisedTrainer, batch: Any, reason: str) -> None:  # noqa: ANN401
        self.in_a_row += 1
        name = f"iteration_{engine.state.iteration:06d}_rank{idist.get_rank()}.pt"
        content = _plain(batch)
        self.bad_batch_dir.mkdir(parents=True, exist_ok=True)
        path = self.bad_batch_dir / name
        atomic_write(path, lambda new: torch.save(content, new))
        where = describe_batch(batch)
        message = f"{where}: {reason}; the batch is skipped and kept as {path}"
        engine.state.skipped_batches = [*skipped_batches(engine), message]
        logger.warning(message)
        if self.in_a_row >= self.patience:
            message = (
                f"{where}: {reason}, and {self.in_a_row} batches in a row are faulty; "
                f"look at the batches in {self.bad_batch_dir}, check the volumes with "
                "`cellseg3d inspect`, or lower the learning rate"
            )
            raise NonFiniteError(message)


def skipped_batches(engine: Engine) -> list[str]:
    """Return a line for each batch that `TrainingStep` has skipped in this process."""
    return list(getattr(engine.state, "skipped_batches", []))


def describe_batch(batch: Any) -> str:  # noqa: ANN401
    """Return the volumes and positions of a batch's samples, for messages."""
    if not isinstance(batch, Mapping):
        return "batch"
    names = _listed(batch.get("case", batch.get("name", ())))
    places = _listed(batch.get("position", batch.get("start", ())))
    parts = [str(name) for name in names] or ["batch"]
    if len(places) == len(parts):
        pairs = zip(parts, places, strict=True)
        parts = [f"{name} at {_place(place)}" for name, place in pairs]
    return ", ".join(parts)


def _partial(batch: Any, images: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return which classes each sample is annotated for, if not all are."""
    if not isinstance(batch, Mapping) or "annotated" not in batch:
        return {}
    return {"annotated": batch["annotated"].to(images.device)}


def _listed(values: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(values, Tensor):
        return list(values.tolist())
    return list(values) if isinstance(values, list | tuple) else [values]


def _place(place: Any) -> str:  # noqa: ANN401
    numbers = place if isinstance(place, list | tuple) else [place]
    return "(" + ", ".join(str(number) for number in numbers) + ")"


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value in a form that ``torch.load(weights_only=True)`` can read."""
    if isinstance(value, Tensor):
        return (
            torch.Tensor(value).detach().cpu()
            if value.is_floating_point()
            else (value.detach().cpu().as_subclass(torch.Tensor))
        )
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, int | float | bool | str) else str(value)


def _restore(network: nn.Module, statistics: list[Tensor]) -> None:
    """Restore the batch-norm statistics, which a forward pass has changed."""
    for buffer, kept in zip(network.buffers(), statistics, strict=True):
        buffer.copy_(kept)


def _any_rank(fault: bool, engine: SupervisedTrainer) -> bool:  # noqa: FBT001
    """Return whether any process has a faulty batch; then all skip the step."""
    if idist.get_world_size() == 1:
        return fault
    flag = torch.tensor(float(fault), device=engine.state.device)
    return bool(idist.all_reduce(flag, op="MAX") > 0)

"""Losses made of losses: sums, and outputs at several depths."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cellseg3d.core.errors import ConfigError
from cellseg3d.models.target import Annotated


class WeightedSum(nn.Module):
    """The weighted sum of several losses.

    Parameters
    ----------
    losses : sequence of Module
        Each called as ``loss(logits, label, annotated)``.
    weights : sequence of float
        One a loss.

    Raises
    ------
    ConfigError
        If there is not one weight for each loss.
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        if len(losses) != len(weights) or not losses:
            message = (
                f"{len(losses)} losses and {len(weights)} weights; expected as many"
            )
            raise ConfigError(message)
        self.losses = nn.ModuleList(losses)
        self.weights = tuple(float(weight) for weight in weights)

    def forward(
        self, logits: Tensor, label: Tensor, annotated: Annotated = None
    ) -> Tensor:
        """Return the loss of logits (N, K, ...) for a label (N, 1, ...)."""
        parts = [
            weight * loss(logits, label, annotated)
            for weight, loss in zip(self.weights, self.losses, strict=True)
        ]
        return torch.stack(parts).sum()


class DeepSupervisionLoss(nn.Module):
    """A loss at several depths of a network, the deeper ones weighing less [1]_.

    Parameters
    ----------
    loss : Module
    weights : sequence of float, optional
        One an output, the final one first; by default each half of the one before.
        They are scaled to a sum of 1.

    References
    ----------
    .. [1] Lee et al. 2015, AISTATS (deeply-supervised nets), arXiv:1409.5185
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.weights = None if weights is None else tuple(map(float, weights))

    def forward(
        self,
        logits: Tensor | Sequence[Tensor],
        label: Tensor,
        annotated: Annotated = None,
    ) -> Tensor:
        """Return the weighted mean of the losses of all outputs.

        Parameters
        ----------
        logits : tensor (N, K, ...) or (N, outputs, K, ...), or sequence of (N, K, ...)
            A network in evaluation gives one output; one in training several, at the
            label's size or, in a sequence, smaller.
        label : tensor, shape (N, 1, ...)
            Thinned to the size of each output.
        annotated
            As for every loss.
        """
        outputs = self._outputs(logits, label)
        weights = self.weights or tuple(0.5**depth for depth in range(len(outputs)))
        if len(weights) < len(outputs):
            message = (
                f"{len(weights)} weights for {len(outputs)} outputs of the network"
            )
            raise ConfigError(message)
        total = sum(weights[: len(outputs)])
        parts = [
            weight / total * self.loss(output, _thinned(label, output), annotated)
            for weight, output in zip(weights, outputs, strict=False)
        ]
        return torch.stack(parts).sum()

    @staticmethod
    def _outputs(logits: Tensor | Sequence[Tensor], label: Tensor) -> Sequence[Tensor]:
        if not isinstance(logits, Tensor):
            return logits
        return logits.unbind(1) if logits.ndim == label.ndim + 1 else [logits]


def _thinned(label: Tensor, like: Tensor) -> Tensor:
    """Return the label at an output's size; no value is mixed from others."""
    if label.shape[2:] == like.shape[2:]:
        return label
    # float32 holds every class and 255 exactly, and "nearest" mixes none.
    thinned = functional.interpolate(
        label.float(), size=like.shape[2:], mode="nearest-exact"
    )
    return thinned.to(label.dtype)

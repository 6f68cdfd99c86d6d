"""An exponential moving average of a network's weights, cheap and exactly resumable."""

from typing import Any

import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cellseg3d.core.errors import ConfigError


class AveragedNetwork:
    """Follow a network in training by an average that forgets slowly.

    The average smooths the noise of small batches, so that a short training scores
    about as a longer one with a smaller rate. Batch-norm statistics are copied.

    Parameters
    ----------
    network : Module
        The network in training, perhaps wrapped for several processes.
    decay : float
        Share of the average kept at each step, in [0, 1); 0 follows the network
        exactly. Young averages forget faster: ``min(decay, (1 + n) / (10 + n))``.

    Raises
    ------
    ConfigError
        If `decay` is out of range.
    """

    def __init__(self, network: nn.Module, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            message = f"average decay is {decay}; expected a share in [0, 1)"
            raise ConfigError(message)
        self.decay = decay
        self.source = plain_network(network)
        self.averaged = AveragedModel(self.source, multi_avg_fn=self._follow)

    @property
    def module(self) -> nn.Module:
        """The network that carries the averaged weights."""
        return self.averaged.module

    def attach(self, engine: Workflow) -> None:
        """Follow every step of a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, _engine: Workflow) -> None:
        """Move the average towards the network."""
        self.averaged.update_parameters(self.source)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and how many steps they have seen."""
        state: dict[str, Any] = self.averaged.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.averaged.load_state_dict(state)

    def _follow(
        self,
        averages: tuple[Tensor, ...] | list[Tensor],
        current: tuple[Tensor, ...] | list[Tensor],
        steps: Tensor | int,
    ) -> None:
        seen = float(steps)
        keep = min(self.decay, (1 + seen) / (10 + seen)) if self.decay else 0.0
        torch._foreach_lerp_(list(averages), list(current), 1 - keep)


def plain_network(network: nn.Module) -> nn.Module:
    """Return the network inside a wrapper for several processes."""
    inner = getattr(network, "module", None)
    wrapped = isinstance(network, nn.parallel.DistributedDataParallel)
    return inner if wrapped and inner is not None else network

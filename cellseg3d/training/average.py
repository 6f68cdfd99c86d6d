"""Keep an exponential moving average of a network's weights during training."""

from typing import Any

import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cellseg3d.core.errors import ConfigError


class AveragedNetwork:
    """A moving average of the weights of a network that is being trained.

    The average smooths the noise of small batches; prediction uses the averaged
    weights. Batch-norm statistics are copied and not averaged.

    Parameters
    ----------
    network : Module
        The network in training, also when wrapped for several processes.
    decay : float
        Share of the average that each step keeps, in [0, 1); with 0 the average equals
        the network. After n steps at most ``(1 + n) / (10 + n)`` is kept, so that the
        first weights are forgotten fast.

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
        """The network with the averaged weights."""
        return self.averaged.module

    def attach(self, engine: Workflow) -> None:
        """Update the average after every step of a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, _engine: Workflow) -> None:
        """Update the average with the network's present weights."""
        self.averaged.update_parameters(self.source)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of steps."""
        state: dict[str, Any] = self.averaged.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
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

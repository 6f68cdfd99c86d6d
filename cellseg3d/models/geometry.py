"""What a network's layers say of the shapes it takes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cellseg3d.core.errors import ConfigError

_CONVS = (nn.Conv2d, nn.Conv3d)
_ANY_CONV = (*_CONVS, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Norms that look at the whole window unless their statistics are frozen.
_WINDOWED = ("InstanceNorm", "GroupNorm", "LayerNorm", "LocalResponseNorm")


@dataclass(frozen=True)
class Geometry:
    """Shapes of a network.

    Parameters
    ----------
    dims : int
        2 or 3.
    channels : int
        C of its input (N, C, ...).
    stride : tuple of int
        Voxels of the input for one of the lowest level, a spatial dimension: sides
        that are multiples of it come back unchanged, wherever a window begins.
    sees_window : bool
        Whether some layer's answer depends on the whole window.
    """

    dims: int
    channels: int
    stride: tuple[int, ...]
    sees_window: bool

    def noise(self, sides: int = 2, batch: int = 1) -> Tensor:
        """Return a reproducible input of `sides` total strides along each side."""
        generator = torch.Generator().manual_seed(0)
        shape = [side * sides for side in self.stride]
        return torch.randn(batch, self.channels, *shape, generator=generator)


def geometry_of(network: nn.Module) -> Geometry:
    """Return the shapes of a network.

    Networks of `models.unet` know their stride; of others it is the product of the
    strides met on the way down.

    Raises
    ------
    ConfigError
        If the network has no convolution.
    """
    first = next((m for m in network.modules() if isinstance(m, _CONVS)), None)
    if first is None:
        message = f"{type(network).__name__} has no convolution; expected a U-Net"
        raise ConfigError(message)
    dims = 2 if isinstance(first, nn.Conv2d) else 3
    known = getattr(network, "total_stride", None)
    channels = int(getattr(network, "in_channels", first.in_channels))
    stride = tuple(map(int, known)) if known is not None else _measured(network, dims)
    return Geometry(dims, channels, stride, sees_window(network))


def classes_of(network: nn.Module) -> int:
    """Return K, the channels of a network's logits (N, K, ...)."""
    known = getattr(network, "num_classes", None)
    if known is not None:
        return int(known)
    first = next(network.parameters())
    with torch.inference_mode():
        logits: Tensor = network(geometry_of(network).noise().to(first.device))
    return int(logits.shape[1])


def features_of(network: nn.Module) -> float:
    """Return how many numbers the convolutions answer for each voxel of the input.

    It depends on shapes alone: the same on every machine, in every number format.
    """
    geometry = geometry_of(network)
    made: list[int] = []

    def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:  # noqa: ANN401
        made.append(output.numel())

    noise = geometry.noise(1)
    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, _ANY_CONV)
    ]
    try:
        with torch.inference_mode():
            network(noise.to(next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(made) / (noise.numel() / geometry.channels)


def sees_window(network: nn.Module) -> bool:
    """Whether some layer normalises by what is in the window."""
    return any(_looks_around(module) for module in network.modules())


def _looks_around(module: nn.Module) -> bool:
    kind = type(module).__name__
    if kind.startswith("BatchNorm"):
        return getattr(module, "running_mean", None) is None
    if kind.startswith("InstanceNorm"):
        return not getattr(module, "track_running_stats", False)
    return kind.startswith(_WINDOWED) or kind.startswith(("AdaptiveAvg", "AdaptiveMax"))


def _measured(network: nn.Module, dims: int) -> tuple[int, ...]:
    """Return the product of down-sampling: the largest ratio of sides seen inside."""
    smallest = [1.0] * dims
    side = 64

    def look(_module: nn.Module, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        if isinstance(output, Tensor) and output.ndim == dims + 2:
            for axis, length in enumerate(output.shape[2:]):
                smallest[axis] = max(smallest[axis], side / max(1, length))

    first = next(m for m in network.modules() if isinstance(m, _CONVS))
    hooks = [m.register_forward_hook(look) for m in network.modules()]
    try:
        with torch.inference_mode():
            weight = first.weight
            probe = weight.new_zeros((1, first.in_channels, *(side,) * dims))
            network(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(round(ratio) for ratio in smallest)

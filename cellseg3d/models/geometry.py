"""Find from a network's layers which shapes it takes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cellseg3d.core.errors import ConfigError
from cellseg3d.models.convolutions import CONVS, TRANSPOSED

_ANY_CONV = (*CONVS, *TRANSPOSED)
# Normalisations whose statistics depend on the whole window, unless frozen.
_WINDOWED = ("InstanceNorm", "GroupNorm", "LayerNorm", "LocalResponseNorm")


@dataclass(frozen=True)
class Geometry:
    """The shapes that a network takes and returns.

    Parameters
    ----------
    dims : int
        Number of spatial dimensions, 2 or 3.
    channels : int
        Number of channels C of its input (N, C, ...).
    stride : tuple of int
        Voxels of the input per voxel of the lowest level, for each spatial dimension.
        Inputs whose sides are multiples of it are not padded.
    sees_window : bool
        Whether some layer's output depends on the whole window.
    """

    dims: int
    channels: int
    stride: tuple[int, ...]
    sees_window: bool

    def noise(self, sides: int = 2, batch: int = 1) -> Tensor:
        """Return a reproducible random input of `sides` strides along each axis."""
        generator = torch.Generator().manual_seed(0)
        shape = [side * sides for side in self.stride]
        return torch.randn(batch, self.channels, *shape, generator=generator)


def geometry_of(network: nn.Module) -> Geometry:
    """Return the shapes of a network.

    Networks of `models.unet` state their stride, and stored networks of other programs
    all of it. For others the stride is the product of the strides of the down-sampling
    layers.

    Raises
    ------
    ConfigError
        If the network has no convolution.
    """
    stated = getattr(network, "geometry", None)
    if isinstance(stated, Geometry):
        return stated
    first = next((m for m in network.modules() if isinstance(m, CONVS)), None)
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
    """Return how many values the convolutions compute for each voxel of the input.

    The number depends on shapes only, so it is equal on every machine and precision.
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
    """Return whether some layer normalises by statistics of the window."""
    return any(_looks_around(module) for module in network.modules())


def _looks_around(module: nn.Module) -> bool:
    kind = type(module).__name__
    if kind.startswith("BatchNorm"):
        return getattr(module, "running_mean", None) is None
    if kind.startswith("InstanceNorm"):
        return not getattr(module, "track_running_stats", False)
    return kind.startswith(_WINDOWED) or kind.startswith(("AdaptiveAvg", "AdaptiveMax"))


def _measured(network: nn.Module, dims: int) -> tuple[int, ...]:
    """Return the total down-sampling: the largest ratio of sides inside the network."""
    smallest = [1.0] * dims
    side = 64

    def look(_module: nn.Module, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        if isinstance(output, Tensor) and output.ndim == dims + 2:
            for axis, length in enumerate(output.shape[2:]):
                smallest[axis] = max(smallest[axis], side / max(1, length))

    first = next(m for m in network.modules() if isinstance(m, CONVS))
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

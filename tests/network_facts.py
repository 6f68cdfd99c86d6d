"""Facts about a network that prediction relies on, measured and not declared."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cellseg3d.models.geometry import geometry_of, sees_window

# A field wider than this is taken for the whole window.
_WIDEST = 4096
_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class NetworkFacts:
    """What a network is, for whoever cuts volumes into windows for it.

    Parameters
    ----------
    total_stride : tuple of int
        Voxels of one cell of its coarsest level, one number a spatial dimension.
        Windows that start on multiples of it all see the same lattice.
    halo : tuple of int or None
        Voxels beyond a block that starts and ends on multiples of the stride that can
        reach the block's output; None where all of the window can.
    receptive_field : tuple of int or None
        Voxels that one cell of the lattice sees along each axis: the stride and the
        halo on both sides.
    normalisation_sees_window : bool
        Whether at prediction a voxel's answer changes with what lies beyond the halo
        (instance or group norm, global pooling), so that windows cannot agree.
    parameters : int
        How many are trained.
    """

    total_stride: tuple[int, ...]
    halo: tuple[int, ...] | None
    receptive_field: tuple[int, ...] | None
    normalisation_sees_window: bool
    parameters: int


def network_facts(
    network: nn.Module,
    spatial_dims: int | None = None,
    *,
    in_channels: int | None = None,
    total_stride: Sequence[int] | None = None,
) -> NetworkFacts:
    """Measure a network.

    The receptive field is where the gradient of one cell of the output is not zero, in
    a copy whose weights are all positive and whose norms pass everything on; so it is
    the widest that training can make of it, not the one that the weights happen to use.

    Parameters
    ----------
    network : Module
        Left as it is.
    spatial_dims, in_channels, total_stride
        Found by `geometry_of` where one is not given.

    Raises
    ------
    ConfigError
        If one is not given and the network has no convolution.
    """
    linear = _linear_copy(network)
    if spatial_dims is None or in_channels is None or total_stride is None:
        geometry = geometry_of(linear)
        spatial_dims, in_channels = geometry.dims, geometry.channels
        total_stride = geometry.stride
    stride = tuple(total_stride)
    alike = [_signature(network, stride, axis) for axis in range(spatial_dims)]
    reaches = {
        key: _reach(linear, in_channels, stride, alike.index(key)) for key in set(alike)
    }
    halo = tuple(reach for key in alike if (reach := reaches[key]) is not None)
    whole = len(halo) < spatial_dims
    return NetworkFacts(
        total_stride=stride,
        halo=None if whole else halo,
        receptive_field=None
        if whole
        else tuple(s + 2 * h for s, h in zip(stride, halo, strict=True)),
        normalisation_sees_window=whole or sees_window(network),
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
    )


def _signature(
    network: nn.Module, stride: Sequence[int], axis: int
) -> tuple[object, ...]:
    """Return what the layers do along an axis; axes alike need one measurement."""
    sizes: list[object] = [stride[axis]]
    for module in network.modules():
        for name in ("kernel_size", "stride", "padding", "dilation", "scale_factor"):
            value = getattr(module, name, None)
            sizes.append(value[axis] if isinstance(value, tuple) else value)
    return tuple(sizes)


def _linear_copy(network: nn.Module) -> nn.Module:
    """Return a copy in which every path from input to output shows in the gradient."""
    linear = copy.deepcopy(network).cpu().float().eval()
    for module in list(linear.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, (*_INSTANCE, *_BATCH, nn.GroupNorm, nn.LayerNorm)):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d | nn.MaxPool3d):
                setattr(module, name, _average(child))
    for parameter in linear.parameters():
        parameter.requires_grad = False
        fan_in = max(1, math.prod(parameter.shape[1:]))
        parameter.fill_(1.0 / fan_in if parameter.ndim > 1 else 0.0)
    for buffer in linear.buffers():
        if buffer.is_floating_point():
            buffer.zero_()
    return linear


def _average(pool: nn.MaxPool2d | nn.MaxPool3d) -> nn.Module:
    kind: Any = nn.AvgPool2d if isinstance(pool, nn.MaxPool2d) else nn.AvgPool3d
    average: nn.Module = kind(
        pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode
    )
    return average


def _reach(
    network: nn.Module, in_channels: int, stride: Sequence[int], axis: int
) -> int | None:
    """Return how far beyond a cell of the lattice along an axis its output sees."""
    step = stride[axis]
    cells = 9
    while cells * step <= _WIDEST:
        shape = list(stride)
        shape[axis] = cells * step
        # Seen in full along this axis, by one cell of the lattice along the others.
        image = torch.ones(1, in_channels, *shape, requires_grad=True)
        first = cells // 2 * step
        logits: Tensor = network(image)
        cell = logits.narrow(2 + axis, first, step).sum()
        gradient = torch.autograd.grad(cell, image)[0].abs()
        others = [dim for dim in range(gradient.ndim) if dim != 2 + axis]
        seen = gradient.sum(others).nonzero().flatten()
        low, high = int(seen[0]), int(seen[-1])
        if low > 0 and high < shape[axis] - 1:
            return max(first - low, high - (first + step - 1))
        cells = 2 * cells + 1
    return None

"""Measure on a small window how much memory a rewritten network takes."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from cellseg3d.acceleration.stream import Stream
from cellseg3d.models.geometry import Geometry
from cellseg3d.models.prepared import PLANES

# In a window of this many planes every layer of most networks reaches its most memory.
LONG = 256
# Bytes that are assumed for each voxel of a window if a network cannot be traced.
UNTRACED = 512


def bytes_per_pixel(
    stream: Stream, geometry: Geometry, laid_out: Callable[[Tensor], Tensor]
) -> float:
    """Return the most bytes that a streamed window takes for each pixel of a plane.

    They are measured on a narrow window that is long enough for the deepest layer.

    Parameters
    ----------
    stream : Stream
    geometry : Geometry
        The geometry of the network before it was rewritten.
    laid_out : callable
        Converts an image to the network's number format and memory layout.
    """
    held = [0]
    z, y, x = geometry.stride
    sides = (-(-LONG // z) * z, y, x)
    keep = tuple((0, side) for side in sides)
    with torch.inference_mode():
        noise = laid_out(torch.rand(1, geometry.channels, *sides))
        slabs = stream.run(
            lambda low, high: noise[:, :, low:high].clone(),
            sides,
            keep,
            PLANES,
            meter=held.append,
        )
        for _ in slabs:
            pass
    return max(held) / (y * x)


def bytes_per_voxel(traced: fx.GraphModule, noise: Tensor) -> float:
    """Return the most bytes that features take at once, for each voxel of a window.

    Parameters
    ----------
    traced : GraphModule
    noise : tensor, shape (N, C, ...)
        A small window in the number format of the network.
    """
    meter = _Meter(traced)
    with torch.inference_mode():
        meter.run(noise)
    return meter.peak / math.prod(noise.shape[2:])


class _Meter(fx.Interpreter):
    """Run a graph and record the most bytes that its features took at once."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.peak = 0

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401
        """Run a node and count its inputs and its output together."""
        made = super().run_node(n)
        alive = [value for value in self.env.values() if isinstance(value, Tensor)]
        if isinstance(made, Tensor):
            alive.append(made)
        sizes = {id(value): value.numel() * value.element_size() for value in alive}
        self.peak = max(self.peak, sum(sizes.values()))
        return made

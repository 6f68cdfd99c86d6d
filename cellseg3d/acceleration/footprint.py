"""Find how much memory a rewritten network takes, without running large windows."""

import math
import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from cellseg3d.acceleration.stream import Along, Pass, Range, Stream, steps_of
from cellseg3d.acceleration.trim import Cuts, lengths_of

# In a window of this many planes every layer of most networks reaches its most memory.
LONG = 256
# Bytes that are assumed for each voxel of a window if a network cannot be traced.
UNTRACED = 512


def bytes_per_pixel(stream: Stream, noise: Tensor, planes: int) -> float:
    """Return the most bytes that a streamed window takes for each pixel of a plane.

    The layers run once on a small window, which shows their channels. A pass over a
    narrow window that is long enough for the deepest layer is then gone through
    without computing it.

    Parameters
    ----------
    stream : Stream
    noise : tensor, shape (N, C, z, y, x)
        A small window in the number format of the network.
    planes : int
        Planes of the answer that are computed at a time.
    """
    shapes = _Shapes(stream.traced)
    with torch.inference_mode():
        shapes.run(noise)
    scale = max(1, LONG // noise.shape[2])
    sides = (scale * noise.shape[2], *noise.shape[3:])
    lengths = lengths_of(stream.traced, sides, stream.reaches)
    if lengths is None:
        raise ValueError("features of different sides are joined")
    along = Along(stream, {node: each[0] for node, each in lengths.items()})
    most: list[int] = []
    empty = _EmptyPass(
        along, _nothing, Cuts({}, (slice(None),) * 3), most.append, shapes=shapes.found
    )
    for step in steps_of(along, (0, sides[0]), planes):
        empty.advance(step)
    pixels: int = math.prod(sides[1:])
    return max(most) / pixels


def _nothing(low: int, high: int) -> Tensor:
    """Stand for the image of a pass that computes nothing."""
    raise AssertionError(f"planes {low} to {high} were read")


@dataclass
class _EmptyPass(Pass):
    """A pass whose layers give planes of the right shape without values."""

    shapes: dict[fx.Node, Tensor] = field(default_factory=dict)

    def compute(self, node: fx.Node, new: Range) -> Tensor:
        """Return new planes of a layer, on the device that holds no values."""
        if node.target is operator.iadd:
            # It writes into its first input.
            return self.planes(next(iter(node.all_input_nodes)), new, None)
        like = self.shapes[node]
        shape = (*like.shape[:2], new[1] - new[0], *like.shape[3:])
        return torch.empty(shape, dtype=like.dtype, device="meta")


class _Shapes(fx.Interpreter):
    """Run a graph and keep the shape and type of each layer's features."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.found: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401
        """Run a node and keep the shape of its output."""
        made = super().run_node(n)
        if isinstance(made, Tensor):
            self.found[n] = torch.empty_like(made, device="meta")
        return made


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

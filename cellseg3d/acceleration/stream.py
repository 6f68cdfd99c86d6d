"""Run a 3D network over a long window, some planes at a time.

Every layer computes each of its planes once and keeps the few that later planes still
need. So a window as long as the volume takes little memory, and no plane is computed
twice, as it would be in the halos of many small windows. The answer is that of one pass
over the window.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn import functional

from cellseg3d.acceleration.trim import (
    Box,
    Cuts,
    Reach,
    cuts_for,
    inputs_of,
    lengths_of,
    reaches_of,
)

Range = tuple[int, int]
Read = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Stream:
    """A traced network that runs some planes at a time.

    Parameters
    ----------
    traced : GraphModule
    reaches : dict
        The reach of each layer; None for a layer that answers voxel by voxel.
    unpadded : dict
        The modules by name, without their padding along z.
    """

    traced: fx.GraphModule
    reaches: dict[fx.Node, Reach | None]
    unpadded: dict[str, nn.Module]

    def run(
        self,
        read: Read,
        sides: tuple[int, ...],
        keep: Box,
        depth: int,
        meter: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[Range, Tensor]]:
        """Yield ((first, last + 1), logits) of the part of a window that is kept.

        Parameters
        ----------
        read : callable
            Returns the planes of the window from a first one up to, but without, a
            last one: (N, C, z, y, x), in the network's number format, channels last.
        sides : tuple of int
            Shape of the window, in multiples of the total stride.
        keep : tuple of (int, int)
            The part of the answer that is kept, along z, y, x.
        depth : int
            Planes of the answer that are computed at a time.
        meter : callable, optional
            Is called after each layer with the bytes that all layers hold.

        Yields
        ------
        tuple of (int, int) and tensor of shape (N, K, z, y, x)
            The range of planes, counted from the window's first, and their logits.
            Each plane that is kept comes once.
        """
        lengths = lengths_of(self.traced, sides, self.reaches)
        cuts = cuts_for(self.traced, sides, ((0, sides[0]), *keep[1:]))
        if lengths is None or cuts is None:
            raise ValueError(
                f"a window of {sides} voxels cannot be run some planes at a time, "
                "because the reach of some layer is not known"
            )
        along = Along(self, {node: each[0] for node, each in lengths.items()})
        run = Pass(along, read, cuts, meter)
        for step in steps_of(along, keep[0], depth):
            answer = run.advance(step)
            if answer is not None:
                yield step.answered, answer


@dataclass(frozen=True)
class _Step:
    """The planes that are computed together.

    Parameters
    ----------
    new : dict
        The range of planes that each layer computes.
    answered : tuple of int
        The range of planes of the answer. It is empty while the first layers must run
        ahead of the last.
    later : dict
        The first plane of each layer that later steps read.
    """

    new: dict[fx.Node, Range]
    answered: Range
    later: dict[fx.Node, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Along:
    """The layers of a network along z, in a window of a given length."""

    stream: Stream
    lengths: dict[fx.Node, int]

    @property
    def layers(self) -> list[fx.Node]:
        """The layers, from the last to the first."""
        return [n for n in reversed(self.stream.traced.graph.nodes) if n.op != "output"]

    def reads(self, node: fx.Node, new: Range, index: int) -> Range:
        """Return the range of planes of an input that a layer reads for new planes."""
        low, high = self._reads(node, new, index)
        length = self.lengths[inputs_of(node)[index]]
        return max(0, low), min(length, high)

    def padding(self, node: fx.Node, new: Range) -> Range:
        """Return how many planes of zeros a layer reads before and after its input."""
        low, high = self._reads(node, new, 0)
        length = self.lengths[inputs_of(node)[0]]
        return max(0, -low), max(0, high - length)

    def _reads(self, node: fx.Node, new: Range, index: int) -> Range:
        reach = self.stream.reaches[node]
        if reach is None or index > 0:
            return new
        low, high = reach.along(0).reads((new,))[0]
        return min(low, new[0] // reach.stride[0]) if reach.up else low, high

    def firsts(self, answered: Range) -> dict[fx.Node, int]:
        """Return the first plane of each layer that a range of the answer needs."""
        layers = self.layers
        needed = {layers[0]: answered}
        for node in layers:
            for index, each in enumerate(inputs_of(node)):
                low, high = self.reads(node, needed[node], index)
                known = needed.get(each, (low, high))
                needed[each] = (min(low, known[0]), max(high, known[1]))
        return {node: low for node, (low, _) in needed.items()}

    def lasts(self, end: int) -> dict[fx.Node, int]:
        """Return how many planes each layer must have computed for `end` of the answer.

        `end` may lie before the first plane; then only the first layers have begun.
        """
        layers = self.layers
        found = {layers[0]: end}
        for node in layers:
            for index, each in enumerate(inputs_of(node)):
                last = self._reads(node, (found[node] - 1, found[node]), index)[1]
                last = min(last, self.lengths[each])
                found[each] = max(last, found.get(each, last))
        return found


def steps_of(along: Along, kept: Range, depth: int) -> list[_Step]:
    """Return the steps of a pass, each of `depth` planes of the answer.

    Steps in which only the first layers run come before them, so that all steps take
    about the same time.
    """
    done = along.firsts((kept[0], min(kept[0] + depth, kept[1])))
    image, first = along.layers[-1], kept[0]
    while along.lasts(first)[image] > done[image]:
        first -= depth
    steps: list[_Step] = []
    firsts_read: list[dict[fx.Node, int]] = []
    while first < kept[1]:
        end = min(first + depth, kept[1])
        lasts = along.lasts(end)
        new = {n: (done[n], lasts[n]) for n in along.layers if done[n] < lasts[n]}
        done.update({node: stop for node, (_, stop) in new.items()})
        read: dict[fx.Node, int] = {}
        for node, planes in new.items():
            for index, each in enumerate(inputs_of(node)):
                low = along.reads(node, planes, index)[0]
                read[each] = min(low, read.get(each, low))
        steps.append(_Step(new, (max(first, kept[0]), max(end, kept[0]))))
        firsts_read.append(read)
        first = end
    later: dict[fx.Node, int] = {}
    for index in range(len(steps) - 1, -1, -1):
        steps[index] = replace(steps[index], later=dict(later))
        for node, low in firsts_read[index].items():
            later[node] = min(low, later.get(node, low))
    return steps


@dataclass
class Pass:
    """The state of one pass: the planes that each layer holds."""

    along: Along
    read: Read
    cuts: Cuts
    meter: Callable[[int], None] | None = None
    held: dict[fx.Node, list[tuple[int, Tensor]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look up after which layer each layer is read for the last time."""
        self.last_uses = _last_uses(self.along.stream.traced)

    def advance(self, step: _Step) -> Tensor | None:
        """Compute a step, drop planes that no later step reads, return the answer.

        The answer is None while the first layers run ahead.
        """
        for node in self.along.stream.traced.graph.nodes:
            if node.op == "output":
                [last] = inputs_of(node)
                answer = None
                if last in step.new:
                    answer = self.planes(last, step.answered, self.cuts.last)
                self.drop(last, step.later)
                return answer
            if node in step.new:
                made = self.compute(node, step.new[node])
                self.held.setdefault(node, []).append((step.new[node][0], made))
                if self.meter is not None:
                    self.meter(self._bytes())
            for each in self.last_uses.get(node, ()):
                self.drop(each, step.later)
        raise AssertionError("the traced network has no output node")

    def _bytes(self) -> int:
        """Return how many bytes the planes of all layers take."""
        parts = [made for held in self.held.values() for _, made in held]
        # An addition in place and its first input share their memory.
        return sum(each.nbytes() for each in {part.untyped_storage() for part in parts})

    def compute(self, node: fx.Node, new: Range) -> Tensor:
        """Return new planes of a layer."""
        if node.op == "placeholder":
            return self.read(*new)
        inputs = inputs_of(node)
        cuts = self.cuts.of.get(node) or (None,) * len(inputs)
        reach = self.along.stream.reaches[node]
        given: list[Tensor] = []
        low = new[0]
        for index, (each, cut) in enumerate(zip(inputs, cuts, strict=True)):
            planes = self.along.reads(node, new, index)
            part = self.planes(each, planes, cut)
            if index == 0 and reach is not None and reach.up:
                low = planes[0] * reach.stride[0]
            elif index == 0 and reach is not None:
                part = _with_zeros(part, *self.along.padding(node, new))
            given.append(part)
        # One layer may be two inputs of another, with different planes for each.
        parts = iter(given)
        args = map_arg(node.args, lambda _: next(parts))
        layer: Any = node.target
        if node.op == "call_module":
            layer = self.along.stream.unpadded[str(node.target)]
        made: Tensor = layer(*args, **node.kwargs)
        if made.shape[2] == new[1] - new[0]:
            return made
        return made[:, :, new[0] - low : new[1] - low]

    def planes(
        self, node: fx.Node, wanted: Range, cut: tuple[slice, ...] | None
    ) -> Tensor:
        """Return a range of planes of a layer, cut along y and x."""
        inside = (slice(None), slice(None)) if cut is None else cut[1:]
        parts = []
        for first, made in self.held[node]:
            low, high = max(wanted[0], first), min(wanted[1], first + made.shape[2])
            if low < high:
                parts.append(made[:, :, low - first : high - first, *inside])
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
        return whole.contiguous(memory_format=torch.channels_last_3d)

    def drop(self, node: fx.Node, later: dict[fx.Node, int]) -> None:
        """Drop the planes of a layer that no later step reads."""
        first_needed = later.get(node)
        kept = []
        for first, made in self.held.get(node, ()):
            last = first + made.shape[2]
            if first_needed is None or last <= first_needed:
                continue
            skipped = max(0, first_needed - first)
            rest = made[:, :, skipped:]
            few = 2 * rest.numel() <= _storage(made)
            kept.append((first + skipped, rest.clone() if few else rest))
        self.held[node] = kept


def _storage(features: Tensor) -> int:
    return features.untyped_storage().nbytes() // features.element_size()


def stream_of(traced: fx.GraphModule) -> Stream | None:
    """Return a network that runs some planes at a time; None if it cannot.

    Parameters
    ----------
    traced : GraphModule
        A folded 3D network, with or without oneDNN's calls.
    """
    reaches = reaches_of(traced, 3)
    if reaches is None:
        return None
    unpadded: dict[str, nn.Module] = {}
    modules = dict(traced.named_modules())
    for node, reach in reaches.items():
        if node.op != "call_module":
            continue
        module = modules[str(node.target)]
        if reach is not None and not reach.up and reach.padding[0]:
            module = without_padding(module)
            if module is None:
                return None
        unpadded[str(node.target)] = module
    return Stream(traced, reaches, unpadded)


def without_padding(module: Any) -> Any:  # noqa: ANN401
    """Return a convolution with the same weights that pads y and x but not z."""
    bare = copy.copy(module)
    if hasattr(module, "geometry"):
        padding, *rest = module.geometry
        bare.geometry = ([0, *padding[1:]], *rest)
        return bare
    if isinstance(module, nn.Conv3d) and module.padding_mode == "zeros":
        bare.padding = (0, *module.padding[1:])
        return bare
    return None


def _with_zeros(features: Tensor, before: int, after: int) -> Tensor:
    """Return features with planes of zeros before and after, as convolutions pad."""
    if not (before or after):
        return features
    whole = functional.pad(features, [0, 0, 0, 0, before, after])
    return whole.contiguous(memory_format=torch.channels_last_3d)


def _last_uses(traced: fx.GraphModule) -> dict[fx.Node, list[fx.Node]]:
    """Return for each layer the inputs that no later layer reads."""
    last: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        for each in inputs_of(node):
            last[each] = node
    found: dict[fx.Node, list[fx.Node]] = {}
    for each, node in last.items():
        found.setdefault(node, []).append(each)
    return found

"""Run a network on a window without computing what only the discarded halo needs.

The deepest level of a U-Net needs the whole halo, and the layers after it need less and
less of it. Features are cut, on the way up, to what the kept core depends on. So a wide
halo takes little time at the fine levels, where there are many voxels.
"""

import copy
import math
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from cellseg3d.acceleration.folding import is_addition, module_of
from cellseg3d.acceleration.merged import MergedConv, MergedUp, SubpixelUp
from cellseg3d.models.convolutions import CONVS, TRANSPOSED

Interval = tuple[int, int]
Box = tuple[Interval, ...]
# Features are cut only if at most this share of them is left, because a cut is a copy.
PAYS = 0.9
_POINTWISE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softmax,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
)
_POOLS = (nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d)
_LAYERS = (*CONVS, *TRANSPOSED)
_POINTWISE_CALLS = {
    functional.relu,
    torch.relu,
    functional.leaky_relu,
    functional.gelu,
    operator.mul,
}


@dataclass(frozen=True)
class Reach:
    """The voxels that a layer reads for each voxel that it computes.

    Parameters
    ----------
    kernel, stride, padding : tuple of int
        Numbers of the layer, one for each spatial dimension.
    up : bool
        Whether the layer is a transposed convolution.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    up: bool = False

    def reads(self, wanted: Box) -> Box:
        """Return the box of inputs that a box of answers needs, ignoring borders."""
        boxes = []
        parts = zip(wanted, self.kernel, self.stride, self.padding, strict=True)
        for (low, high), k, s, p in parts:
            if self.up:
                boxes.append((-(-(low + p - k + 1) // s), (high - 1 + p) // s + 1))
            else:
                boxes.append((low * s - p, (high - 1) * s - p + k))
        return tuple(boxes)

    def scaled(self, given: Box) -> Box:
        """Return the box of answers that a box of inputs gives."""
        if self.up:
            return tuple(
                (low * s, high * s)
                for (low, high), s in zip(given, self.stride, strict=True)
            )
        return tuple(
            (low // s, -(-high // s))
            for (low, high), s in zip(given, self.stride, strict=True)
        )

    def along(self, axis: int) -> "Reach":
        """Return the reach along one axis only."""
        one = slice(axis, axis + 1)
        return Reach(self.kernel[one], self.stride[one], self.padding[one], self.up)

    def grain(self, after: tuple[int, ...]) -> tuple[int, ...]:
        """Return the multiples at which inputs must begin, from those of answers."""
        if self.up:
            return tuple(
                max(1, n // s) for n, s in zip(after, self.stride, strict=True)
            )
        return tuple(n * s for n, s in zip(after, self.stride, strict=True))


@dataclass(frozen=True)
class Cuts:
    """The cuts of features for one shape of window.

    Parameters
    ----------
    of : dict
        For each node that cuts, the slices of each of its inputs; None leaves an input
        whole.
    last : tuple of slice
        The part of the answer that is kept.
    """

    of: dict[fx.Node, tuple[tuple[slice, ...] | None, ...]]
    last: tuple[slice, ...]


class TrimmedNetwork(nn.Module):
    """A traced network that computes little more than the part that is kept.

    Parameters
    ----------
    traced : GraphModule
        A folded network, with or without oneDNN's calls.
    """

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__()
        self.traced = traced
        self._runners: dict[Any, _Runner | None] = {}

    def forward(self, image: Tensor, keep: tuple[slice, ...] | None = None) -> Tensor:
        """Return logits (N, K, ...) of the part of the window that is kept.

        Parameters
        ----------
        image : tensor, shape (N, C, ...)
        keep : tuple of slice, optional
            One slice for each spatial dimension. When None, all is kept.
        """
        if keep is None:
            whole: Tensor = self.traced(image)
            return whole
        box = tuple((part.start, part.stop) for part in keep)
        key = (tuple(image.shape[2:]), box)
        if key not in self._runners:
            cuts = cuts_for(self.traced, key[0], box)
            self._runners[key] = None if cuts is None else _Runner(self.traced, cuts)
        runner = self._runners[key]
        if runner is None:
            whole = self.traced(image)
            return whole[(slice(None), slice(None), *keep)]
        # A runner holds the features of its window, so each window has its own copy.
        answer: Tensor = copy.copy(runner).run(image)
        return answer[(slice(None), slice(None), *runner.cuts.last)]


class _Runner(fx.Interpreter):
    """Run a graph node by node and cut the inputs of its nodes."""

    def __init__(self, traced: fx.GraphModule, cuts: Cuts) -> None:
        super().__init__(traced)
        self.cuts = cuts

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        """Run a layer, which was looked up by its dotted name before."""
        return self.submodules[target](*args, **kwargs)

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[Any, Any]:
        """Return the inputs of a node, cut."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        cuts = self.cuts.of.get(n)
        if cuts is None:
            return args, kwargs
        if n.target is torch.cat:
            parts = [_cut(*pair) for pair in zip(args[0], cuts, strict=True)]
            return (parts, *args[1:]), kwargs
        return tuple(_cut(*pair) for pair in zip(args, cuts, strict=True)), kwargs


def cuts_for(traced: fx.GraphModule, sides: tuple[int, ...], keep: Box) -> Cuts | None:
    """Return where to cut, or None if the reach of some layer is not known.

    Parameters
    ----------
    traced : GraphModule
    sides : tuple of int
        Shape of the window.
    keep : tuple of (int, int)
        The part of the answer that is kept.
    """
    reaches = reaches_of(traced, len(sides))
    lengths = None if reaches is None else lengths_of(traced, sides, reaches)
    if reaches is None or lengths is None:
        return None
    need = _needs(traced, reaches, lengths, keep)
    return _cuts(traced, reaches, lengths, need, keep)


def reaches_of(traced: fx.GraphModule, dims: int) -> dict[fx.Node, Reach | None] | None:
    """Return the reach of every layer, or None if some layer is not known.

    Parameters
    ----------
    traced : GraphModule
    dims : int
        The number of spatial dimensions.

    Returns
    -------
    dict or None
        The value of a layer that answers voxel by voxel is None.
    """
    modules = dict(traced.named_modules())
    reaches: dict[fx.Node, Reach | None] = {}
    for node in traced.graph.nodes:
        if node.op in ("placeholder", "output", "get_attr"):
            continue
        known, reach = _reach(node, modules, dims)
        if not known:
            return None
        reaches[node] = reach
    return reaches


def inputs_of(node: fx.Node) -> list[fx.Node]:
    """Return the layers whose features a layer reads."""
    if node.target is torch.cat:
        return list(node.args[0])  # type: ignore[arg-type]
    return [each for each in node.args if isinstance(each, fx.Node)]


def _reach(
    node: fx.Node, modules: dict[str, nn.Module], dims: int
) -> tuple[bool, Reach | None]:
    """Return whether a node is known, and its reach; None if it is voxel by voxel."""
    if node.op == "call_function":
        known = is_addition(node) or node.target in _POINTWISE_CALLS
        joins = node.target is torch.cat and _dim_of(node) == 1
        return known or joins, None
    module: Any = module_of(node, modules)
    if isinstance(module, _POINTWISE):
        return True, None
    if isinstance(module, _POOLS):
        kernel, stride = _each(module.kernel_size, dims), _each(module.stride, dims)
        reach = Reach(kernel, stride, _each(module.padding, dims))
        return not module.ceil_mode, reach
    conv = _reach_of_conv(module)
    return conv is not None, conv


def _reach_of_conv(module: Any) -> Reach | None:  # noqa: ANN401
    padding: Any
    stride: Any
    dilation: Any
    if isinstance(module, MergedConv | MergedUp | SubpixelUp):
        padding, stride, dilation, _ = module.geometry
        kernel, up = module.kernel_size, module.transposed
    elif isinstance(module, _LAYERS) and not isinstance(module.padding, str):
        padding, stride, dilation = module.padding, module.stride, module.dilation
        kernel, up = module.kernel_size, isinstance(module, TRANSPOSED)
    else:
        return None
    wide = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    return Reach(wide, tuple(stride), tuple(padding), up)


def _each(value: Any, dims: int) -> tuple[int, ...]:  # noqa: ANN401
    return (value,) * dims if isinstance(value, int) else tuple(value)


def _dim_of(node: fx.Node) -> Any:  # noqa: ANN401
    return node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)


def lengths_of(
    traced: fx.GraphModule, sides: tuple[int, ...], reaches: dict[fx.Node, Any]
) -> dict[fx.Node, tuple[int, ...]] | None:
    """Return the sides of every node's features if nothing is cut.

    Return None if features of different sides are joined.
    """
    lengths: dict[fx.Node, tuple[int, ...]] = {}
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            lengths[node] = sides
        elif node in reaches:
            before = lengths[inputs_of(node)[0]]
            reach = reaches[node]
            if reach is None:
                if any(lengths[each] != before for each in inputs_of(node)):
                    return None
                lengths[node] = before
            else:
                box = reach.scaled(tuple((0, n) for n in before))
                lengths[node] = tuple(high for _, high in box)
    return lengths


def _needs(
    traced: fx.GraphModule,
    reaches: dict[fx.Node, Reach | None],
    lengths: dict[fx.Node, tuple[int, ...]],
    keep: Box,
) -> dict[fx.Node, Box]:
    """Return the box of every node's features that the kept part depends on.

    The box begins and ends at multiples of the strides of the layers that follow.
    """
    need: dict[fx.Node, Box] = {}
    grain: dict[fx.Node, tuple[int, ...]] = {}
    for node in reversed(traced.graph.nodes):
        if node.op == "output":
            need[node.args[0]] = keep
            grain[node.args[0]] = (1,) * len(keep)
        if node not in need or node not in reaches:
            continue
        for index, each in enumerate(inputs_of(node)):
            reach = reaches[node]
            wanted, steps = need[node], grain[node]
            if reach is not None and index == 0:
                wanted, steps = reach.reads(wanted), reach.grain(steps)
            elif reach is not None:
                # Features that a convolution adds have the shape of its answer, so
                # they are needed for the whole input that it reads.
                wanted = reach.scaled(reach.reads(wanted))
            grain[each] = tuple(map(max, steps, grain.get(each, steps)))
            need[each] = _join(need.get(each), wanted, lengths[each], grain[each])
    return need


def _join(
    one: Box | None, other: Box, lengths: tuple[int, ...], grain: tuple[int, ...]
) -> Box:
    if one is not None:
        other = tuple(
            (min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True)
        )
    return tuple(
        (max(0, low // step * step), min(n, -(-high // step) * step))
        for (low, high), n, step in zip(other, lengths, grain, strict=True)
    )


def _cuts(
    traced: fx.GraphModule,
    reaches: dict[fx.Node, Reach | None],
    lengths: dict[fx.Node, tuple[int, ...]],
    need: dict[fx.Node, Box],
    keep: Box,
) -> Cuts:
    have: dict[fx.Node, Box] = {}
    cuts: dict[fx.Node, tuple[tuple[slice, ...] | None, ...]] = {}
    answer = keep
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            have[node] = tuple((0, n) for n in lengths[node])
        elif node.op == "output":
            answer = have[node.args[0]]
        elif node in reaches and node in need:
            have[node], wanted = _step(node, reaches[node], have, need)
            slices = tuple(
                _slices(have[each], box)
                for each, box in zip(inputs_of(node), wanted, strict=True)
            )
            if any(part is not None for part in slices):
                cuts[node] = slices
        elif node in reaches:
            have[node] = tuple((0, n) for n in lengths[node])
    return Cuts(cuts, tuple(_slice(keep, answer)))


def _step(
    node: fx.Node,
    reach: Reach | None,
    have: dict[fx.Node, Box],
    need: dict[fx.Node, Box],
) -> tuple[Box, list[Box]]:
    """Return the box of a node's answer, and the boxes its inputs are cut to."""
    inputs = inputs_of(node)
    if reach is None:
        common = have[inputs[0]]
        for each in inputs[1:]:
            common = _meet(common, have[each])
        if len(inputs) > 1 and _volume(need[node]) <= PAYS * _volume(common):
            common = need[node]
        return common, [common] * len(inputs)
    given = have[inputs[0]]
    if _volume(need[inputs[0]]) <= PAYS * _volume(given):
        given = need[inputs[0]]
    answer = reach.scaled(given)
    for each in inputs[1:]:
        answer = _meet(answer, have[each])
    if len(inputs) > 1:
        back = tuple(
            (low * s, high * s)
            for (low, high), s in zip(answer, reach.stride, strict=True)
        )
        given = _meet(given, back)
    return answer, [given, *([answer] * (len(inputs) - 1))]


def _meet(one: Box, other: Box) -> Box:
    return tuple(
        (max(a[0], b[0]), min(a[1], b[1])) for a, b in zip(one, other, strict=True)
    )


def _volume(box: Box) -> int:
    return math.prod(high - low for low, high in box)


def _slices(have: Box, wanted: Box) -> tuple[slice, ...] | None:
    return None if have == wanted else tuple(_slice(wanted, have))


def _slice(part: Box, within: Box) -> list[slice]:
    return [
        slice(low - first, high - first)
        for (low, high), (first, _) in zip(part, within, strict=True)
    ]


def _cut(features: Tensor, part: tuple[slice, ...] | None) -> Tensor:
    if part is None:
        return features
    layout = torch.channels_last if features.ndim == 4 else torch.channels_last_3d
    view = features[(slice(None), slice(None), *part)]
    return view.contiguous(memory_format=layout)

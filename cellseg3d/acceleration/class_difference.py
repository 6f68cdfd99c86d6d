"""Let a network of two classes compute one number: its second logit less its first.

Probabilities and labels depend on this difference alone, and rounding never changes its
sign. So the last layers may run in bfloat16, with half of the channels.
"""

import copy
import operator
from collections import Counter
from functools import reduce
from typing import Any

import torch
from torch import fx, nn

from cellseg3d.acceleration.folding import is_addition, module_of, put_module
from cellseg3d.models.convolutions import CONVS, TRANSPOSED


def to_class_difference(traced: fx.GraphModule) -> bool:
    """Rewrite a folded graph, in place, so that its answer has shape (N, 1, ...).

    Parameters
    ----------
    traced : GraphModule
        A graph whose answer, (N, 2, ...), is a convolution or a sum of convolutions.
        The sum may also contain what one of these convolutions reads.

    Returns
    -------
    bool
        Whether the graph was rewritten; if not, it is unchanged.
    """
    modules = dict(traced.named_modules())
    [output] = [node for node in traced.graph.nodes if node.op == "output"]
    terms = Counter(_terms(output.args[0], []))
    layers = {node: module_of(node, modules) for node in terms}
    last = {node: layer for node, layer in layers.items() if _answers_two(node, layer)}
    takers = {
        node: next((one for one in last if _takes(one, last[one], node)), None)
        for node in terms
        if node not in last
    }
    if not last or None in takers.values() or any(terms[node] > 1 for node in last):
        return False
    for node, layer in last.items():
        times = sum(terms[each] for each, taker in takers.items() if taker is node)
        put_module(traced, node, _difference(layer, times))
    with traced.graph.inserting_before(output):
        answer = reduce(
            lambda one, other: traced.graph.call_function(operator.add, (one, other)),
            last,
        )
    output.args = (answer,)
    traced.graph.eliminate_dead_code()
    traced.graph.lint()
    traced.recompile()
    return True


def _terms(node: Any, found: list[Any]) -> list[Any]:  # noqa: ANN401
    """Return the terms of the sum that a node computes: nodes, and perhaps numbers."""
    sums = isinstance(node, fx.Node) and is_addition(node) and not node.kwargs
    if sums and len(node.users) == 1:
        for each in node.args:
            _terms(each, found)
    else:
        found.append(node)
    return found


def _answers_two(node: Any, layer: Any) -> bool:  # noqa: ANN401
    """Return whether a term is a convolution of two channels that is used only here."""
    if not isinstance(layer, CONVS + TRANSPOSED) or len(node.users) != 1:
        return False
    calls = [each for each in node.graph.nodes if each.target == node.target]
    return bool(layer.out_channels == 2 and layer.groups == 1 and len(calls) == 1)


def _takes(node: fx.Node, layer: Any, added: Any) -> bool:  # noqa: ANN401
    """Return whether a convolution reads the features that are added to its answer.

    It must read and answer the same voxels, so that its middle tap can add them.
    """
    if not isinstance(layer, CONVS) or node.args[0] is not added:
        return False
    sides = zip(layer.kernel_size, layer.padding, layer.dilation, strict=True)
    centred = not isinstance(layer.padding, str) and all(
        k % 2 == 1 and p == d * (k // 2) for k, p, d in sides
    )
    return centred and layer.in_channels == 2 and set(layer.stride) == {1}


def _difference(layer: Any, times: int) -> nn.Module:  # noqa: ANN401
    """Return a convolution that computes the difference of the two channels of a layer.

    Parameters
    ----------
    layer : Conv2d, Conv3d, ConvTranspose2d or ConvTranspose3d
    times : int
        How many times the features that it reads are added to its answer.
    """
    made: Any = copy.deepcopy(layer)
    made.out_channels = 1
    with torch.no_grad():
        first, second = layer.weight.split(1, 1 if layer.transposed else 0)
        weight = second - first
        if times:
            centre = (0, slice(None), *(side // 2 for side in layer.kernel_size))
            weight[centre] += times * torch.tensor([-1.0, 1.0])
        made.weight = nn.Parameter(weight, requires_grad=False)
        if layer.bias is not None:
            bias = layer.bias[1:] - layer.bias[:1]
            made.bias = nn.Parameter(bias, requires_grad=False)
    return made  # type: ignore[no-any-return]

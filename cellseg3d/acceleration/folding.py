"""Rewrite a trained network with fewer layers that compute the same function."""

import copy
import logging
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cellseg3d.models.convolutions import CONVS, TRANSPOSED
from cellseg3d.models.geometry import geometry_of

# Folding changes float32 answers by about 1e-6 of their range.
TOLERANCE = 1e-4
_log = logging.getLogger(__name__)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Dropout3d)


def fold(network: nn.Module) -> nn.Module:
    """Return a copy with frozen batch norms folded into the convolutions before them.

    For sides that are multiples of the total stride, the copy computes the same
    function up to rounding; this is checked on noise. A network that cannot be traced
    whole is folded child by child.

    Parameters
    ----------
    network : Module
        A network in float32 and evaluation mode; it is not changed.
    """
    twin = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    probe = geometry_of(network).noise().to(next(twin.parameters()).device)
    inner = getattr(twin, "network", None)
    if type(twin).__name__ == "PaddedNetwork" and isinstance(inner, nn.Module):
        twin = inner
    plain = _without_branches(copy.deepcopy(twin))
    with torch.no_grad():
        expected = twin(probe)
        traced = _traced(plain)
        if traced is not None and _agrees(traced, probe, expected):
            return traced
        _log.info(
            "%s cannot be traced whole, so its parts are folded one by one",
            type(twin).__name__,
        )
        parts = _fold_children(copy.deepcopy(twin))
        return parts if _agrees(parts, probe, expected) else twin


def _traced(module: nn.Module) -> fx.GraphModule | None:
    """Return a module as a folded graph, or None if it cannot be traced.

    A module cannot be traced if its code branches on its input.
    """
    try:
        traced = fx.symbolic_trace(module)
    except Exception as why:  # A network may raise any error here.
        _log.debug("%s cannot be traced: %s", type(module).__name__, why)
        return None
    _drop_nothing(traced)
    _fold_norms(traced)
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    return traced


def _fold_children(module: nn.Module) -> nn.Module:
    """Fold the children that can be traced, of a module that cannot."""
    for name, child in list(module.named_children()):
        if not any(isinstance(part, _NORMS) for part in child.modules()):
            continue
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            _fold_children(child)
            continue
        traced = _traced(child)
        setattr(module, name, traced if traced is not None else _fold_children(child))
    return module


def _agrees(module: nn.Module, probe: Tensor, expected: Tensor) -> bool:
    """Return whether a rewritten network answers as the original, up to rounding."""
    try:
        found = module(probe)
    except (RuntimeError, TypeError, ValueError):
        return False
    if found.shape != expected.shape:
        return False
    scale = float(expected.abs().max()) or 1.0
    return float((found - expected).abs().max()) <= TOLERANCE * scale


class _UpCat(nn.Module):
    """MONAI's UpCat for sides that halve evenly.

    It does not compare sizes, so it can be traced.
    """

    def __init__(self, upsample: nn.Module, convs: nn.Module) -> None:
        super().__init__()
        self.upsample = upsample
        self.convs = convs

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return the refined features of the finer level."""
        refined: Tensor = self.convs(torch.cat([fine, self.upsample(coarse)], dim=1))
        return refined


def _without_branches(module: nn.Module) -> nn.Module:
    for name, child in list(module.named_children()):
        if type(child).__name__ == "UpCat":
            setattr(module, name, _UpCat(child.upsample, child.convs))  # type: ignore[arg-type]
        else:
            _without_branches(child)
    return module


def module_of(node: Any, modules: dict[str, nn.Module]) -> nn.Module | None:  # noqa: ANN401
    """Return the module that a node of a graph calls, or None."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return modules.get(str(node.target))
    return None


def is_addition(node: fx.Node) -> bool:
    """Return whether a node adds two tensors."""
    return node.op == "call_function" and node.target in {
        operator.add,
        operator.iadd,
        torch.add,
    }


def put_module(traced: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Replace the module that a node calls."""
    parent, _, name = str(node.target).rpartition(".")
    setattr(traced.get_submodule(parent), name, module)


def _drop_nothing(traced: fx.GraphModule) -> None:
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if isinstance(module_of(node, modules), _NOTHING):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)


def _fold_norms(traced: fx.GraphModule) -> None:
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = module_of(node, modules)
        if not isinstance(norm, _NORMS) or norm.running_mean is None:
            continue
        before = node.args[0]
        layer = module_of(before, modules)
        if not isinstance(layer, CONVS + TRANSPOSED) or len(before.users) > 1:
            continue
        transposed = isinstance(layer, TRANSPOSED)
        if transposed and layer.groups > 1:
            continue
        folded = fuse_conv_bn_eval(layer, norm, transpose=transposed)
        put_module(traced, before, folded)
        modules[str(before.target)] = folded
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)

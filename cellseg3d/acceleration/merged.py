"""Run a convolution, an addition and an activation as one call to oneDNN.

oneDNN is the library with which torch computes convolutions on a CPU.
"""

import itertools
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from cellseg3d.acceleration.folding import is_addition, module_of, put_module
from cellseg3d.models.convolutions import CONVS, TRANSPOSED

Unary = tuple[str, list[float]]
# A transposed convolution whose shuffled form has at most this many channels is faster
# as a convolution and a shuffle, as measured on a CPU with 512-bit vectors.
SUBPIXEL_CHANNELS = 32
# An image of at most this many channels is copied to float32 in little time.
NARROW = 8
_ONEDNN: Any = torch.ops.mkldnn


class MergedConv(nn.Module):
    """A convolution that may be followed by an addition and an activation.

    It passes over memory half as often as separate layers do, and float32 windows in
    batches of one do not take torch's slow path.

    Parameters
    ----------
    conv : Conv2d or Conv3d
    unary : tuple of str and list of float
        oneDNN's name of the activation and its numbers; ``("none", [])`` if there is
        no activation.
    adds : bool
        Whether a second input is added before the activation.
    """

    def __init__(self, conv: Any, unary: Unary, *, adds: bool = False) -> None:  # noqa: ANN401
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self.geometry = _geometry(conv)
        self.kernel_size = tuple(conv.kernel_size)
        self.transposed = False
        self.unary = unary
        self.adds = adds

    def forward(self, image: Tensor, other: Tensor | None = None) -> Tensor:
        """Return the features, in the number format of the weights.

        Parameters
        ----------
        image : tensor, shape (N, C, ...)
        other : tensor, optional
            What is added before the activation, in the shape of the features.
        """
        weight, bias = self.weight, self.bias
        if weight.dtype != image.dtype:
            if other is None and weight.shape[1] > NARROW:
                return self._in_parts(image)
            image = image.to(weight.dtype)
            other = None if other is None else other.to(weight.dtype)
        if other is None:
            return self._one(image, weight, bias)
        if bias is not None and bias.dtype != image.dtype:
            # oneDNN's call with a sum needs a bias in the image's number format.
            summed = self._bare(image, weight, bias).add_(other)
            return _activated(summed, self.unary)
        return self._sum(image, other, weight, bias)

    def _in_parts(self, image: Tensor) -> Tensor:
        """Return the float32 answer to a bfloat16 image of many channels.

        The image is not copied to float32. oneDNN sums in float32 and rounds the sum to
        bfloat16, so a second call computes what the rounding of the weights and of the
        sum left out, and both are added.
        """
        high = self.weight.to(image.dtype)
        low = (self.weight - high.float()).to(image.dtype)
        first = self._bare(image, high, None)
        rest = self._bare(image, low, None).sub_(first)
        rest = self._sum(image, rest, high, None, bare=True)
        whole = first.float().add_(rest)
        if self.bias is not None:
            whole.add_(self.bias.view(-1, *(1,) * (image.ndim - 2)))
        return _activated(whole, self.unary)

    def _one(self, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        made: Tensor = _ONEDNN._convolution_pointwise(
            image, weight, bias, *self.geometry, *self.unary, ""
        )
        return made

    def _bare(self, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        made: Tensor = _ONEDNN._convolution_pointwise(
            image, weight, bias, *self.geometry, "none", [], ""
        )
        return made

    def _sum(
        self,
        image: Tensor,
        other: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *,
        bare: bool = False,
    ) -> Tensor:
        name, numbers = ("none", []) if bare else self.unary
        after = None if name == "none" else name
        made: Tensor = _ONEDNN._convolution_pointwise.binary(
            image, other, weight, bias, *self.geometry, "add", 1.0, after, numbers, ""
        )
        return made


def _geometry(conv: Any) -> tuple[list[int], list[int], list[int], int]:  # noqa: ANN401
    """Return padding, stride, dilation and groups in the form of oneDNN's calls."""
    return list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups


def _activated(features: Tensor, unary: Unary) -> Tensor:
    """Apply an activation to features in place and return them."""
    name, numbers = unary
    if name == "none":
        return features
    slope = numbers[0] if name == "leaky_relu" else 0.0
    return functional.leaky_relu_(features, slope)


class MergedUp(nn.Module):
    """A transposed convolution that may be followed by an activation.

    Parameters
    ----------
    conv : ConvTranspose2d or ConvTranspose3d
    unary : tuple of str and list of float
    """

    def __init__(self, conv: Any, unary: Unary) -> None:  # noqa: ANN401
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self.geometry = _geometry(conv)
        self.kernel_size = tuple(conv.kernel_size)
        self.more = list(conv.output_padding)
        self.transposed = True
        self.unary = unary

    def forward(self, image: Tensor) -> Tensor:
        """Return the features, whose sides are larger by the stride."""
        image = image.to(self.weight.dtype)
        padding, stride, dilation, groups = self.geometry
        name, numbers = self.unary
        grown: Tensor = _ONEDNN._convolution_transpose_pointwise(
            image,
            self.weight,
            self.bias,
            padding,
            self.more,
            stride,
            dilation,
            groups,
            name,
            numbers,
            "",
        )
        return grown


class SubpixelUp(nn.Module):
    """A transposed convolution of few channels, as a convolution and a shuffle [1]_.

    Each voxel becomes 2^d finer voxels, which are channels of one convolution here. So
    the processor's vectors are full; in a transposed convolution of few channels they
    would be mostly empty.

    Parameters
    ----------
    conv : ConvTranspose2d or ConvTranspose3d
        A layer of stride 2, kernel 3, padding 1, output padding 1 and one group.
    unary : tuple of str and list of float

    References
    ----------
    .. [1] Shi et al. 2016, CVPR, doi:10.1109/CVPR.2016.207
    """

    def __init__(self, conv: Any, unary: Unary) -> None:  # noqa: ANN401
        super().__init__()
        weight = conv.weight
        dims = weight.ndim - 2
        self.channels = int(weight.shape[1])
        self.transposed = True
        self.geometry = ([1] * dims, [2] * dims, [1] * dims, 1)
        self.unary = unary
        self.weight = nn.Parameter(_subpixel_weight(weight), requires_grad=False)
        bias = weight.new_zeros(self.channels) if conv.bias is None else conv.bias
        self.bias = nn.Parameter(bias.repeat(2**dims), requires_grad=False)
        # `trim` needs the kernel size of the transposed convolution.
        self.kernel_size = (3,) * dims

    def forward(self, image: Tensor) -> Tensor:
        """Return the features, whose sides are twice as long."""
        image = image.to(self.weight.dtype)
        dims = image.ndim - 2
        ones = [1] * dims
        # Zeros are needed at the far ends only, but oneDNN pads both ends.
        fine = _ONEDNN._convolution_pointwise(
            image, self.weight, self.bias, ones, ones, ones, 1, *self.unary, ""
        )
        far = (slice(None), slice(None), *(slice(1, None) for _ in ones))
        return _shuffled(fine[far], dims, self.channels)


def _subpixel_weight(weight: Tensor) -> Tensor:
    """Return weights (2^d * K, C, 2, ...) from transposed ones (C, K, 3, ...)."""
    dims, channels = weight.ndim - 2, weight.shape[1]
    fine = weight.new_zeros((2**dims * channels, weight.shape[0], *(2,) * dims))
    # An even voxel depends on the middle tap only, an odd voxel on the outer two.
    taps = {(0, 0): 1, (1, 0): 2, (1, 1): 0}
    for place, child in enumerate(itertools.product((0, 1), repeat=dims)):
        for step in itertools.product((0, 1), repeat=dims):
            pairs = list(zip(child, step, strict=True))
            if all(pair in taps for pair in pairs):
                tap: Any = tuple(taps[pair] for pair in pairs)
                rows = slice(place * channels, (place + 1) * channels)
                fine[(rows, slice(None), *step)] = weight[:, :, *tap].T  # type: ignore[index]
    return fine


def _shuffled(fine: Tensor, dims: int, channels: int) -> Tensor:
    """Return (N, K, 2h, ...) from (N, 2^d * K, h, ...), channels last in memory."""
    batch, sides = fine.shape[0], fine.shape[2:]
    last = fine.movedim(1, -1).reshape(batch, *sides, *(2,) * dims, channels)
    order = [axis for pair in range(dims) for axis in (1 + pair, 1 + dims + pair)]
    mixed = last.permute(0, *order, 2 * dims + 1)
    grown = mixed.reshape(batch, *(2 * side for side in sides), channels)
    return grown.movedim(-1, 1)


def has_onednn() -> bool:
    """Return whether this build of torch has oneDNN and the calls used here."""
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(built) and hasattr(_ONEDNN, "_convolution_pointwise")


def merge_calls(traced: fx.GraphModule) -> fx.GraphModule:
    """Merge the convolutions of a graph, in place, with additions and activations.

    Parameters
    ----------
    traced : GraphModule
        A graph that runs on the CPU and whose norms are folded.
    """
    _activations(traced)
    _additions(traced)
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    return traced


def _activations(traced: fx.GraphModule) -> None:
    """Merge every convolution with the activation that follows it."""
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        conv = module_of(node, modules)
        if not _is_plain(conv):
            continue
        unary: Unary = ("none", [])
        users = list(node.users)
        if len(users) == 1 and (found := _unary(users[0], modules)) is not None:
            unary = found
            users[0].replace_all_uses_with(node)
            traced.graph.erase_node(users[0])
        put_module(traced, node, _merged(conv, unary))


def _additions(traced: fx.GraphModule) -> None:
    """Merge ``conv(x) + y``, and an activation of the sum, into the convolution."""
    order = {node: index for index, node in enumerate(traced.graph.nodes)}
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        features = [each for each in node.args if isinstance(each, fx.Node)]
        if not is_addition(node) or len(features) != 2 or node.kwargs:
            continue
        pairs = [(node.args[0], node.args[1]), (node.args[1], node.args[0])]
        fits = [pair for pair in pairs if _takes_sum(pair[0], modules)]
        # Of two convolutions the later one adds, because the other is computed by then.
        fits.sort(key=lambda pair: order[pair[0]])
        if not fits or fits[-1][0] is fits[-1][1]:
            _add_in_place(node, modules)
            continue
        conv, other = fits[-1]
        if order[other] > order[conv]:
            other.append(conv)  # Only the sum reads this convolution, so it may move.
        module = modules[str(conv.target)]
        users = list(node.users)
        unary = _unary(users[0], modules) if len(users) == 1 else None
        module.unary, module.adds = unary or ("none", []), True
        conv.args = (conv.args[0], other)
        last = users[0] if unary is not None else node
        last.replace_all_uses_with(conv)
        if last is not node:
            traced.graph.erase_node(last)
        traced.graph.erase_node(node)


def _add_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    """Let a sum overwrite the features of a layer that nothing else reads."""
    first, second = node.args
    for fresh, other in ((first, second), (second, first)):
        made = isinstance(module_of(fresh, modules), MergedConv | MergedUp)
        if made and isinstance(fresh, fx.Node) and len(fresh.users) == 1:
            node.target = operator.iadd
            node.args = (fresh, other)
            return


def _takes_sum(node: Any, modules: dict[str, nn.Module]) -> bool:  # noqa: ANN401
    module = module_of(node, modules)
    return (
        isinstance(module, MergedConv)
        and not module.adds
        and module.unary[0] == "none"
        and len(node.users) == 1
    )


def _is_plain(module: nn.Module | None) -> bool:
    """Return whether oneDNN's call can compute a convolution."""
    if not isinstance(module, CONVS + TRANSPOSED):
        return False
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _merged(conv: Any, unary: Unary) -> nn.Module:  # noqa: ANN401
    if isinstance(conv, CONVS):
        return MergedConv(conv, unary)
    dims = conv.weight.ndim - 2
    usual = (3, 1, 2)
    found = (conv.kernel_size[0], conv.padding[0], conv.stride[0])
    alike = all(
        len(set(each)) == 1
        for each in (conv.kernel_size, conv.padding, conv.stride, conv.output_padding)
    )
    grows = (conv.output_padding[0], conv.dilation, conv.groups)
    narrow = conv.weight.shape[1] * 2**dims <= SUBPIXEL_CHANNELS
    if narrow and alike and found == usual and grows == (1, (1,) * dims, 1):
        return SubpixelUp(conv, unary)
    return MergedUp(conv, unary)


def _unary(node: fx.Node, modules: dict[str, nn.Module]) -> Unary | None:
    """Return oneDNN's name and numbers for an activation; None for any other node."""
    module = module_of(node, modules)
    if isinstance(module, nn.ReLU):
        return ("relu", [])
    if isinstance(module, nn.LeakyReLU):
        return ("leaky_relu", [float(module.negative_slope)])
    if isinstance(module, nn.PReLU) and module.weight.numel() == 1:
        # A PReLU with one slope for all channels is a leaky ReLU.
        return ("leaky_relu", [float(module.weight)])
    if node.op == "call_function" and node.target in {functional.relu, torch.relu}:
        return ("relu", [])
    return None

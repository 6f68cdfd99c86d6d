"""Compute layers that torch trains slowly on a CPU with its faster kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cellseg3d.models.layout import memory_layout

# With channels last in memory, a batch norm fills the processor's vectors with
# channels. With fewer channels than this it takes three times as long as with the
# channels outermost.
_FEW_CHANNELS = 8
# Features that are computed at a time, so that intermediate arrays stay in the cache.
_BLOCK = 2**16


class QuickLayers(TorchFunctionMode):
    """A context in which some layers on a CPU are computed in a faster way.

    The functions and their gradients are the same. A PReLU of one slope runs as a
    leaky ReLU: torch's gradient of a PReLU makes a second array as large as the
    features and takes a third of a small U-Net's training step, and the gradient here
    takes a fifth of that. A batch norm of few channels runs with the channels
    outermost. On a GPU nothing changes.
    """

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's signature
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call a torch function, or the faster one in its place."""
        if func is torch.prelu and len(args) == 2 and _is_slow_prelu(*args):
            return _OneSlope.apply(*args)  # type: ignore[no-untyped-call]
        if func is functional.batch_norm and _is_slow_norm(args[0]):
            layout = _layout_of(args[0])
            plain = relaid(args[0], torch.contiguous_format)
            return relaid(func(plain, *args[1:], **(kwargs or {})), layout)
        return func(*args, **(kwargs or {}))


def relaid(
    features: Tensor, layout: torch.memory_format, dtype: torch.dtype | None = None
) -> Tensor:
    """Return features in another memory layout and dtype, and their gradient likewise.

    torch's own changes of layout do not change the gradient back, so every layer before
    them would work on two arrays whose voxels lie in different orders.
    """
    dtype = dtype or features.dtype
    if features.dtype == dtype and features.is_contiguous(memory_format=layout):
        return features
    changed: Tensor = _Relaid.apply(features, layout, dtype)  # type: ignore[no-untyped-call]
    return changed


class _Relaid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        features: Tensor,
        layout: torch.memory_format,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.before = features.dtype, _layout_of(features)
        return features.to(dtype, memory_format=layout)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        dtype, layout = ctx.before
        return gradient.to(dtype, memory_format=layout), None, None


def _layout_of(features: Tensor) -> torch.memory_format:
    last = memory_layout(features.ndim - 2)
    is_last = features.is_contiguous(memory_format=last)
    return last if is_last else torch.contiguous_format


def _is_slow_prelu(features: Tensor, weight: Tensor) -> bool:
    return weight.numel() == 1 and _trains_on_cpu(features)


def _is_slow_norm(features: Tensor) -> bool:
    return features.shape[1] < _FEW_CHANNELS and _trains_on_cpu(features)


def _trains_on_cpu(features: Tensor) -> bool:
    return features.device.type == "cpu" and torch.is_grad_enabled()


class _OneSlope(torch.autograd.Function):
    """``max(x, 0) + slope * min(x, 0)``, whose slope's gradient is summed in blocks."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        ctx.slope = float(weight)
        ctx.save_for_backward(features, weight)
        return functional.leaky_relu(features, ctx.slope)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        features, weight = ctx.saved_tensors
        layout = _layout_of(features)
        passed = torch.empty_like(features, memory_format=layout)
        exact = torch.promote_types(features.dtype, torch.float32)
        slope = weight.new_zeros(weight.shape, dtype=exact)
        values, slopes, out = (
            _as_it_lies(each, layout) for each in (features, gradient, passed)
        )
        for start in range(0, len(values), _BLOCK):
            part = slice(start, start + _BLOCK)
            # The gradient where the feature is above zero, else `slope` times it.
            above = torch.ops.aten.threshold_backward(slopes[part], values[part], 0)
            torch.lerp(above, slopes[part], ctx.slope, out=out[part])
            if ctx.needs_input_grad[1]:
                below = values[part].clamp(max=0).to(exact)
                slope += torch.dot(below, slopes[part].to(exact))
        return passed, slope.to(weight.dtype) if ctx.needs_input_grad[1] else None


def _as_it_lies(features: Tensor, layout: torch.memory_format) -> Tensor:
    """Return features as one row in the order of a layout, if possible uncopied."""
    dense = features.contiguous(memory_format=layout)
    return (
        dense if layout == torch.contiguous_format else dense.movedim(1, -1)
    ).flatten()

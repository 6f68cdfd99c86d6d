"""Layers that torch trains slowly on a CPU, computed by its faster kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class QuickLayers(TorchFunctionMode):
    """Within it, a PReLU of one slope runs as a leaky ReLU of that slope.

    The function and its gradients are the same, but torch's gradient of a PReLU makes
    a second array as large as the features, and on a CPU takes a third of a small
    U-Net's training step; this one takes a fifth of that. GPUs keep theirs.
    """

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - torch's signature
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call a torch function, or what stands for it."""
        if func is torch.prelu and len(args) == 2 and _is_slow(*args):
            return _OneSlope.apply(*args)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def _is_slow(features: Tensor, weight: Tensor) -> bool:
    return (
        weight.numel() == 1
        and features.device.type == "cpu"
        and torch.is_grad_enabled()
    )


class _OneSlope(torch.autograd.Function):
    """``max(x, 0) + slope * min(x, 0)``, with the gradient of the slope as a sum."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        ctx.slope = float(weight)
        ctx.save_for_backward(features, weight)
        return functional.leaky_relu(features, ctx.slope)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        gradient: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        features, weight = ctx.saved_tensors
        passed = torch.ops.aten.leaky_relu_backward(
            gradient, features, ctx.slope, self_is_result=False
        )
        if not ctx.needs_input_grad[1]:
            return passed, None
        below = features.clamp(max=0).mul_(gradient)
        slope = below.sum(dtype=torch.float32)
        return passed, slope.to(weight.dtype).reshape(weight.shape)

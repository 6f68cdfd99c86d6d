"""Half precision and memory layout, on a CPU as on a GPU, by one word."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from monai.inferers.inferer import Inferer
from torch import Tensor

from cellseg3d.core.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16"]
_NAMES = ("auto", "float32", "bfloat16")


def choose_precision(name: str, device: torch.device | str) -> torch.dtype:
    """Return the type that convolutions compute in.

    Parameters
    ----------
    name : {"auto", "float32", "bfloat16"}
        ``"auto"`` takes bfloat16 where the processor multiplies it in hardware;
        elsewhere it would only be emulated, and slower than float32.
    device : torch.device or str
        Where the network runs.

    Raises
    ------
    ConfigError
        If the name is none of the three.
    """
    if name not in _NAMES:
        message = f"precision is {name!r}; expected one of {', '.join(_NAMES)}"
        raise ConfigError(message)
    if name == "auto":
        return torch.bfloat16 if _fast_bfloat16(torch.device(device)) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def autocast(
    device: torch.device | str, dtype: torch.dtype
) -> AbstractContextManager[Any]:
    """Return the context in which a network computes in `dtype`."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=dtype)


def memory_layout(spatial_dims: int) -> torch.memory_format:
    """Return the memory layout that convolutions of this dimension run best in."""
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


class AutocastInferer(Inferer):
    """Run a network once on a batch, in the chosen precision and memory layout.

    MONAI's ``amp=True`` is CUDA's alone; this one works on every device.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        What convolutions compute in; logits come back in float32.
    channels_last : bool
        Lay channels out last in memory, as convolutions on CPUs and GPUs like them.
    """

    def __init__(self, precision: str = "auto", *, channels_last: bool = True) -> None:
        super().__init__()
        choose_precision(precision, "cpu")
        self.precision = precision
        self.channels_last = channels_last

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Tensor],
        *args: Any,  # noqa: ANN401 - MONAI's signature
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """Return float32 logits (N, K, ...) of a batch (N, C, ...)."""
        if self.channels_last:
            layout = memory_layout(inputs.ndim - 2)
            inputs = inputs.contiguous(memory_format=layout)
        dtype = choose_precision(self.precision, inputs.device)
        with autocast(inputs.device, dtype):
            logits: Tensor = network(inputs, *args, **kwargs)
        return logits.float()


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch names no public question; this is the one its own tests ask.
    answer = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and answer is not None and bool(answer())

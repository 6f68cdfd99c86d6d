"""Choose the number format and memory layout of a training, on CPU and GPU."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers.inferer import Inferer
from torch import Tensor

from cellseg3d.acceleration.training_layers import QuickLayers, relaid
from cellseg3d.core.errors import ConfigError
from cellseg3d.models.hardware import (
    check_acceleration,
    has_fast_bfloat16,
    require_bfloat16,
)
from cellseg3d.models.layout import memory_layout

_NAMES = ("auto", "float32", "bfloat16")


def training_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """Return the dtype that convolutions compute in during training.

    Parameters
    ----------
    name : {"auto", "float32", "bfloat16"}
        ``"auto"`` is bfloat16 if the processor has hardware for it, else float32,
        because emulated bfloat16 is slower than float32.
    device : torch.device or str
        Where the network runs.

    Raises
    ------
    ConfigError
        If the name is none of the three.
    EnvironmentFault
        If the name is "bfloat16" and the device cannot compute with it.
    """
    _check_name(name)
    place = torch.device(device)
    if name == "bfloat16":
        require_bfloat16(place)
    half = name == "bfloat16" or (name == "auto" and has_fast_bfloat16(place))
    return torch.bfloat16 if half else torch.float32


def _check_name(name: str) -> None:
    if name not in _NAMES:
        message = f"precision is {name!r}; expected one of {', '.join(_NAMES)}"
        raise ConfigError(message)


class AutocastInferer(Inferer):
    """Run a network once on a batch, in the chosen precision and memory layout.

    MONAI's ``amp=True`` works only with CUDA; this class works on every device. Weights
    stay float32, because their updates are too small for bfloat16.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        Number format of the convolutions, as in `training_dtype`. Logits are float32.
    acceleration : {"auto", "off"}
        With ``"off"`` the network is called unchanged, and precision ``"auto"`` means
        float32.
    """

    def __init__(self, precision: str = "auto", acceleration: str = "auto") -> None:
        super().__init__()
        _check_name(precision)
        check_acceleration(acceleration)
        self.accelerated = acceleration != "off"
        plain = precision == "auto" and not self.accelerated
        self.precision = "float32" if plain else precision

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Tensor],
        *args: Any,  # noqa: ANN401 - MONAI's signature
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """Return float32 logits (N, K, ...) of a batch (N, C, ...)."""
        dtype = training_dtype(self.precision, inputs.device)
        half = dtype != torch.float32
        kind = inputs.device.type
        with torch.autocast(kind, dtype=dtype, enabled=half):
            if not self.accelerated:
                return network(inputs, *args, **kwargs).float()
            with QuickLayers():
                logits = network(_channels_last(inputs), *args, **kwargs)
        # A loss computes along the classes, which is faster if they are not the
        # innermost axis in memory.
        return relaid(logits, torch.contiguous_format, torch.float32)


def _channels_last(images: Tensor) -> Tensor:
    """Return images (N, C, ...) with channels last in memory, also for one channel.

    With one channel, torch considers both layouts equal and keeps the other one. The
    output of the first layers would then have the other layout than the weights.
    """
    if images.shape[1] > 1:
        return images.contiguous(memory_format=memory_layout(images.ndim - 2))
    dense = images.contiguous()
    batch, _, *others = dense.stride()
    return dense.as_strided(dense.shape, (batch, 1, *others))

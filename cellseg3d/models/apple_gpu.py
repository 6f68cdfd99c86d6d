"""Whether an Apple GPU computes the convolutions of a network as the CPU does."""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from cellseg3d.core.errors import EnvironmentFault

# Image channels in and out, as of a first, an inner and a last layer.
CHANNELS = ((1, 8), (8, 16), (32, 3))
SIDE = 8
# float32 sums of up to 32 * 27 products in another order differ by about 1e-6 of
# the largest; those of the faults that are known differ by more than half of it.
TOLERANCE = 1e-3
_LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}


@functools.cache
def require_right_convolutions(device: torch.device) -> None:
    """Refuse a device whose convolutions or their gradients differ from the CPU's.

    Some versions of macOS compute 3D convolutions wrongly on the GPU and say nothing
    (https://github.com/pytorch/pytorch/issues/197114).

    Raises
    ------
    EnvironmentFault
        With the convolution that differs.
    """
    for name, difference in convolution_differences(device):
        if not difference <= TOLERANCE:
            message = (
                f"device '{device.type}': its {name} differs from the CPU's by "
                f"{difference:.1e} of the largest value, {TOLERANCE:.0e} is allowed; "
                "take device 'cpu', or a newer macOS and torch"
            )
            raise EnvironmentFault(message)


def convolution_differences(device: torch.device) -> Iterator[tuple[str, float]]:
    """Yield convolutions by name with the largest difference from the CPU's values.

    The differences are relative to the largest value on the CPU. Values and gradients
    are compared, for both layouts in memory.
    """
    source = torch.Generator().manual_seed(0)
    for dims in (2, 3):
        for channels in CHANNELS:
            shape = (2, channels[0], *[SIDE] * dims)
            image = torch.randn(shape, generator=source)
            size = (channels[1], channels[0], *[3] * dims)
            weight = torch.randn(size, generator=source)
            expected = _convolved(image, weight)
            for layout in (torch.contiguous_format, _LAYOUTS[dims]):
                there = [
                    part.to(device, memory_format=layout) for part in (image, weight)
                ]
                found = _convolved(*there)
                name = f"{dims}D convolution of {channels[0]} to {channels[1]} channels"
                yield name, _difference(found, expected)


def _convolved(image: Tensor, weight: Tensor) -> list[Tensor]:
    """Return a convolution's values, and the gradients of its image and weights."""
    image = image.detach().requires_grad_()
    weight = weight.detach().requires_grad_()
    convolve = torch.conv2d if image.ndim == 4 else torch.conv3d
    with torch.inference_mode(mode=False), torch.enable_grad():
        values = convolve(image, weight, padding=1)
        gradients = torch.autograd.grad(values.square().mean(), (image, weight))
    return [part.detach().cpu() for part in (values, *gradients)]


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(found, expected, strict=True)
    parts = [(one - other).abs().max() / other.abs().max() for one, other in pairs]
    return float(torch.stack(parts).max())

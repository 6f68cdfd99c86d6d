"""A network that predicts, and its plain form: torch alone, nothing made faster."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Zyx
from cellseg3d.models.geometry import features_of
from cellseg3d.models.hardware import Hardware

Read = Callable[[int, int], Tensor]
Keep = tuple[slice, slice, slice]
# Planes of a 3D window that are computed together, where a network can: more take more
# memory, and fewer leave the layers of few planes too little work.
PLANES = 32


class PreparedNetwork(Protocol):
    """A network on its device, which answers windows of a volume.

    A window is a box of n planes of h x w pixels: the planes are slices across some
    axis for a 2D or 2.5D network, and lie along z for a 3D one. `PlainNetwork` says
    what the answer is; the networks of `acceleration` give the same, but for
    rounding, in less time.
    """

    @property
    def hardware(self) -> Hardware:
        """The device and the number format in which it computes."""

    @property
    def streams(self) -> bool:
        """Whether it runs a window some planes at a time.

        A window may then be as long as the volume. Otherwise it is held whole.
        """

    def logits(
        self, read: Read, window: Zyx, keep: Keep, planes: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the logits of the part of a window that is kept.

        Parameters
        ----------
        read : callable
            Returns the planes of the window from the first number up to, but without,
            the second: tensor of float32, shape (C, planes, h, w), scaled.
        window : tuple of int
            Shape of the window (n, h, w). Its sides, except the number of slices of a
            2D or 2.5D network, are multiples of the network's total stride.
        keep : tuple of slice
            The part of the window that is answered.
        planes : int
            How many planes of the answer may be computed together, where a network
            can compute few at a time.

        Yields
        ------
        tuple of int and tensor of shape (K, m, h', w')
            The number of the first of m kept planes, and their logits on the
            network's device. Each kept plane comes once, in order. Two classes may be
            answered by one channel, the second logit less the first.
        """

    def held_bytes(self, window: Zyx, planes: int) -> float:
        """Return about how much memory `logits` takes for such a window."""

    def describe(self) -> dict[str, Any]:
        """Return what runs the network, where and how, for the provenance."""


class PlainNetwork:
    """A network as torch runs it: every window whole, layer after layer.

    This is what all faster ways are measured against, and what predicts when the
    acceleration is switched off.

    Parameters
    ----------
    network : Module
        Float32, (N, C, ...) in, logits (N, K, ...) out; a copy of it is used.
    spec : InputSpec
        The shape of the network's input.
    hardware : Hardware
    """

    streams = False

    def __init__(self, network: nn.Module, spec: InputSpec, hardware: Hardware) -> None:
        twin = copy.deepcopy(network).eval()
        self.network = twin.to(hardware.device, hardware.dtype)
        self.spec = spec
        self.hardware = hardware

    @torch.inference_mode()
    def logits(
        self, read: Read, window: Zyx, keep: Keep, planes: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (first plane, logits) as `PreparedNetwork.logits` says."""
        along, *inside = keep
        if self.spec.spatial_dims == 3:
            image = self._placed(read(0, window[0]))
            yield along.start, self.network(image[None])[0][(slice(None), *keep)]
            return
        context = self.spec.context
        image = self._placed(read(along.start - context, along.stop + context))
        for first, stacks in batches_of_stacks(image, context, planes):
            logits_nkhw = self.network(stacks)[(slice(None), slice(None), *inside)]
            yield along.start + first, logits_nkhw.movedim(0, 1)

    def held_bytes(self, window: Zyx, planes: int) -> float:
        """Return the memory of all features of a window, as if none were freed."""
        deep = self.spec.spatial_dims == 3
        at_once = window[0] if deep else min(planes, window[0])
        read = window[0] * self.spec.image_channels
        features = at_once * features_of(self.network) + read
        return float(features * window[1] * window[2] * self.hardware.dtype.itemsize)

    def describe(self) -> dict[str, Any]:
        """Return what runs the network, where and how."""
        return {"backend": "torch", "acceleration": "off", **self.hardware.describe()}

    def _placed(self, image: Tensor) -> Tensor:
        return image.to(self.hardware.device, self.hardware.dtype)


def batches_of_stacks(
    image_cnhw: Tensor, context: int, size: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield (number of the first, stacks) of all stacks of slices, `size` at a time."""
    stacks = stack_slices(image_cnhw, context)
    for first in range(0, len(stacks), size):
        yield first, stacks[first : first + size]


def stack_slices(slices_cnhw: Tensor, context: int) -> Tensor:
    """Return every stack of 2 * context + 1 neighbouring slices, without a copy.

    Parameters
    ----------
    slices_cnhw : tensor, shape (C, n, h, w)
        Neighbouring slices of each of C images.
    context : int
        Slices on each side of the centre slice.

    Returns
    -------
    tensor, shape (n - 2 * context, C * (2 * context + 1), h, w)
        A view for C = 1.
    """
    stacks_cnhwd = slices_cnhw.unfold(1, 2 * context + 1, 1)
    return stacks_cnhwd.permute(1, 0, 4, 2, 3).flatten(1, 2)

"""Rewrite a trained network so that it gives the same answers in less time."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from cellseg3d.acceleration.class_difference import to_class_difference
from cellseg3d.acceleration.folding import fold
from cellseg3d.acceleration.footprint import (
    UNTRACED,
    bytes_per_pixel,
    bytes_per_voxel,
)
from cellseg3d.acceleration.merged import has_onednn, merge_calls
from cellseg3d.acceleration.rounding import to_bfloat16
from cellseg3d.acceleration.stream import Stream, stream_of
from cellseg3d.acceleration.trim import TrimmedNetwork
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Zyx
from cellseg3d.models.geometry import Geometry, geometry_of
from cellseg3d.models.hardware import Hardware
from cellseg3d.models.layout import memory_layout
from cellseg3d.models.prepared import Keep, Read, batches_of_stacks

_log = logging.getLogger(__name__)
# Layers make copies while they compute, which take this much on top of the features.
SLACK = 1.5
# The same for a window that runs some planes at a time, where joined planes are copies,
# too. The U-Net of benchmarks/predict.py took 2.3 with 32 planes and 2.5 with 16.
STREAMED_SLACK = 2.4


@dataclass(frozen=True)
class AcceleratedNetwork:
    """A `models.prepared.PreparedNetwork` that is rewritten to be fast.

    Parameters
    ----------
    network : Module
        The folded network, in `hardware.dtype`, with channels last in memory.
    spec : InputSpec
    hardware : Hardware
    geometry : Geometry
        The geometry of the network before it was rewritten.
    backend : {"torch", "openvino"}
        The library that runs it.
    stream : Stream or None
        Runs a 3D network over a long window, some planes at a time; None if windows
        run whole.
    """

    network: nn.Module
    spec: InputSpec
    hardware: Hardware
    geometry: Geometry
    backend: str = "torch"
    stream: Stream | None = None

    @property
    def streams(self) -> bool:
        """Whether it runs a window some planes at a time."""
        return self.stream is not None

    @torch.inference_mode()
    def logits(
        self, read: Read, window: Zyx, keep: Keep, planes: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (first plane, logits), as `PreparedNetwork.logits` does."""
        along, *inside = keep
        if self.stream is not None:
            box = tuple((part.start, part.stop) for part in keep)
            slabs = self.stream.run(
                lambda low, high: self.laid_out(read(low, high)[None]),
                window,
                box,
                planes,
            )
            for (first, _), logits in slabs:
                yield first, logits[0]
        elif self.spec.spatial_dims == 3:
            yield along.start, self.run(read(0, window[0])[None], keep)[0]
        else:
            context = self.spec.context
            # A slice is part of several stacks and is moved to the device once.
            image = read(along.start - context, along.stop + context).to(
                self.hardware.device,
                self.hardware.dtype,
                memory_format=torch.contiguous_format,
            )
            for first, stacks in batches_of_stacks(image, context, planes):
                logits = self.run(stacks, tuple(inside))
                yield along.start + first, logits.movedim(0, 1)

    @torch.inference_mode()
    def run(self, batch: Tensor, keep: tuple[slice, ...] | None = None) -> Tensor:
        """Return logits (N, K, ...) of a batch, cut to the part that is kept.

        Parameters
        ----------
        batch : tensor, shape (N, C, ...)
            Images in float32 or the network's number format, with sides that are
            multiples of the total stride.
        keep : tuple of slice, optional
            One slice for each spatial dimension. When None, all is kept.

        Returns
        -------
        tensor
            Logits on the network's device, in float32 or its number format.
        """
        given = self.laid_out(batch)
        if isinstance(self.network, TrimmedNetwork):
            trimmed: Tensor = self.network(given, keep)
            return trimmed
        logits: Tensor = self.network(given)
        return logits if keep is None else logits[(slice(None), slice(None), *keep)]

    def laid_out(self, batch: Tensor) -> Tensor:
        """Return a batch on the device, in the network's number format and layout."""
        return batch.to(
            self.hardware.device,
            self.hardware.dtype,
            memory_format=memory_layout(batch.ndim - 2),
        )

    def held_bytes(self, window: Zyx, planes: int) -> float:
        """Return about how many bytes `logits` takes for a window of this shape."""
        depth, height, width = window
        if self.stream is not None:
            return STREAMED_SLACK * self._pixel_bytes(planes) * height * width
        if self.spec.spatial_dims == 3:
            return self._voxel_bytes * depth * height * width
        # Slices are read together, once in the network's format and once in float32.
        read = 8 * depth * self.spec.image_channels
        return (self._voxel_bytes * planes + read) * height * width

    def _pixel_bytes(self, planes: int) -> float:
        if self.stream is None:
            raise ValueError("the network does not run some planes at a time")
        if planes not in self._measured:
            noise = self.laid_out(self.geometry.noise())
            self._measured[planes] = bytes_per_pixel(self.stream, noise, planes)
        return self._measured[planes]

    @cached_property
    def _measured(self) -> dict[int, float]:
        """Bytes for each pixel of a streamed window, by the planes at a time."""
        return {}

    @cached_property
    def _voxel_bytes(self) -> float:
        if not isinstance(self.network, TrimmedNetwork):
            return UNTRACED
        noise = self.laid_out(self.geometry.noise())
        # The input is held in float32 as well.
        peak = bytes_per_voxel(self.network.traced, noise)
        return SLACK * peak + 8 * self.geometry.channels

    def describe(self) -> dict[str, Any]:
        """Return the backend, the device and the precision, for records."""
        return {"backend": self.backend, **self.hardware.describe()}


def prepare(
    network: nn.Module,
    spec: InputSpec,
    hardware: Hardware,
    *,
    backend: str = "auto",
    windows: Sequence[Tensor] = (),
    difference: bool = False,
    folded: nn.Module | None = None,
) -> AcceleratedNetwork:
    """Return a fast form of a network; the network itself is not changed.

    Parameters
    ----------
    network : Module
        A network in float32 and evaluation mode.
    spec : InputSpec
    hardware : Hardware
    backend : {"auto", "torch", "openvino"}
        The library that runs it. ``"auto"`` is OpenVINO for int8 and torch otherwise.
    windows : sequence of tensor
        Inputs (N, C, ...) with which int8 is calibrated. Other formats ignore them.
    difference : bool
        Whether a network of two classes may give the difference of their logits, one
        channel, which `prediction.fusion.labels_of` and `prediction.fusion.probs_of`
        take as well.
    folded : Module, optional
        What `fold` returned for the network. It is changed in place.

    Raises
    ------
    ConfigError
        If int8 is asked for without windows.
    EnvironmentFault
        If OpenVINO is needed and not installed.
    """
    geometry = geometry_of(network)
    if backend == "openvino" or hardware.precision == "int8":
        from cellseg3d.acceleration.openvino_network import (  # noqa: PLC0415
            compile_network,
        )

        compiled = compile_network(network, hardware, windows)
        return AcceleratedNetwork(compiled, spec, hardware, geometry, "openvino")
    ready = fold(network) if folded is None else folded
    if isinstance(ready, fx.GraphModule):
        if difference:
            to_class_difference(ready)
        if hardware.device.type == "cpu" and has_onednn():
            merge_calls(ready)
        ready = TrimmedNetwork(ready)
    if hardware.precision == "bfloat16":
        ready = to_bfloat16(ready)
    elif hardware.precision == "float16":
        ready = ready.half()
    ready = ready.to(hardware.device)
    layout = memory_layout(geometry.dims)
    ready = ready.to(memory_format=layout)  # type: ignore[call-overload]
    stream = None
    # A GPU has the memory to hold wide windows whole, and is slow at many small steps.
    if (
        hardware.device.type != "cuda"
        and isinstance(ready, TrimmedNetwork)
        and geometry.dims == 3
        and not geometry.sees_window
    ):
        stream = stream_of(ready.traced)
    _log.info(
        "running on %s in %s (%s)",
        hardware.device,
        hardware.precision,
        hardware.reason,
    )
    return AcceleratedNetwork(ready, spec, hardware, geometry, "torch", stream)

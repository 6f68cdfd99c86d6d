"""Make a trained network fast without changing its answer: a predictor."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from cellseg3d.acceleration.allocator import bound_memory, keep_memory
from cellseg3d.acceleration.class_difference import contrast
from cellseg3d.acceleration.folding import fold
from cellseg3d.acceleration.hardware import Hardware, choose_hardware
from cellseg3d.acceleration.merged import fuse, has_onednn
from cellseg3d.acceleration.rounding import to_bfloat16
from cellseg3d.acceleration.stream import DEPTH, Stream, stream_of
from cellseg3d.acceleration.trim import TrimmedNetwork
from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.models.geometry import Geometry, features_of, geometry_of

_log = logging.getLogger(__name__)
Keep = tuple[slice, ...]
# Planes of a window after which every layer of most networks holds all it ever does.
LONG = 256


@dataclass(frozen=True)
class Engine:
    """A network prepared for one device and number format.

    Parameters
    ----------
    network : Module
        Folded, in `hardware.dtype`, channels last.
    hardware : Hardware
    name : str
        What runs it, for the log and the provenance.
    geometry : Geometry
        Of the network as it was given.
    stream : Stream or None
        How a 3D network runs over a long window, some planes at a time; None where it
        cannot.
    features : float or None
        Of a network that is streamed: numbers that its layers answer for a voxel.
    """

    network: nn.Module
    hardware: Hardware
    name: str
    geometry: Geometry
    stream: Stream | None = None
    features: float | None = None

    @torch.inference_mode()
    def __call__(self, batch: Tensor, keep: Keep | None = None) -> Tensor:
        """Return logits (N, K, ...) of a batch, cut to the part that is kept.

        Parameters
        ----------
        batch : tensor, shape (N, C, ...)
            In float32 or the engine's format; sides are multiples of the total stride.
        keep : tuple of slice, optional
            One a spatial dimension; all when None.

        Returns
        -------
        tensor
            On the engine's device, in float32 or its number format.
        """
        given = self._laid_out(batch)
        if isinstance(self.network, TrimmedNetwork):
            trimmed: Tensor = self.network(given, keep)
            return trimmed
        logits: Tensor = self.network(given)
        return logits if keep is None else logits[(slice(None), slice(None), *keep)]

    def planes(
        self,
        read: Callable[[int, int], Tensor],
        sides: tuple[int, ...],
        keep: Keep,
        depth: int = DEPTH,
    ) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Yield ((first, last + 1), logits) of the kept part of one long 3D window.

        Parameters
        ----------
        read : callable
            Given a range of planes of the window, returns them: tensor of float32,
            shape (N, C, z, y, x).
        sides : tuple of int
            Shape of the window, multiples of the total stride.
        keep : tuple of slice
        depth : int
            Planes that are computed at a time.
        """
        if self.stream is None:
            raise ValueError(f"{self.name}: this engine does not stream windows")
        box = tuple((part.start, part.stop) for part in keep)
        yield from self.stream.run(
            lambda low, high: self._laid_out(read(low, high)), sides, box, depth
        )

    @cached_property
    def bytes_per_pixel(self) -> float:
        """The most memory of a window that is streamed, over the pixels of a plane.

        Measured once, on a narrow window that is long enough for the deepest layer.
        """
        if self.stream is None:
            raise ValueError(f"{self.name}: this engine does not stream windows")
        held = [0]
        z, y, x = self.geometry.stride
        sides = (-(-LONG // z) * z, y, x)
        noise = torch.rand(1, self.geometry.channels, *sides)
        keep = tuple((0, side) for side in sides)
        with torch.inference_mode():
            placed = self._laid_out(noise)
            slabs = self.stream.run(
                lambda low, high: placed[:, :, low:high].clone(),
                sides,
                keep,
                meter=held.append,
            )
            for _ in slabs:
                pass
        return max(held) / (y * x)

    def placed(
        self, image: Tensor, layout: torch.memory_format = torch.contiguous_format
    ) -> Tensor:
        """Return an image of any shape on the device, in its format, in a layout."""
        return image.to(self.hardware.device, self.hardware.dtype, memory_format=layout)

    def _laid_out(self, batch: Tensor) -> Tensor:
        """Return a batch on the device, in its format and layout."""
        return self.placed(batch, memory_layout(batch.ndim - 2))

    def describe(self) -> dict[str, Any]:
        """Return what was picked, for the provenance of a segmentation."""
        return {
            "engine": self.name,
            "device": str(self.hardware.device),
            "precision": self.hardware.precision,
            "precision_reason": self.hardware.reason,
        }


def prepare(
    network: nn.Module,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    windows: Sequence[Tensor] = (),
    *,
    contrasts: bool = False,
    folded: nn.Module | None = None,
) -> Engine:
    """Return an engine for a network; the network is left as it is.

    Parameters
    ----------
    network : Module
        Float32, in evaluation mode.
    device, precision : str
        See `hardware.choose_hardware`.
    backend : {"auto", "torch", "openvino"}
        What runs it; ``"auto"`` is torch, but OpenVINO for int8.
    windows : sequence of tensor
        Inputs (N, C, ...) that int8 is calibrated with; needed for it alone.
    contrasts : bool
        Whether a network of two classes may answer their difference, one channel, as
        `fusion.labels_of` and `fusion.probs_of` take it.
    folded : Module, optional
        What `fold` made of the network; taken over and changed.

    Raises
    ------
    ConfigError
        If int8 is asked for without windows.
    EnvironmentFault
        If OpenVINO is needed and is not installed.
    """
    hardware = choose_hardware(device, precision)
    geometry = geometry_of(network)
    if backend == "openvino" or hardware.precision == "int8":
        from cellseg3d.acceleration.openvino_network import compile_network  # noqa: PLC0415

        return Engine(
            compile_network(network, hardware, windows),
            hardware,
            "openvino",
            geometry,
        )
    if hardware.device.type == "cpu":
        keep_memory()
    ready = fold(network) if folded is None else folded
    if isinstance(ready, fx.GraphModule):
        if contrasts:
            contrast(ready)
        if hardware.device.type == "cpu" and has_onednn():
            fuse(ready)
        ready = TrimmedNetwork(ready)
    if hardware.precision == "bfloat16":
        ready = to_bfloat16(ready)
    ready = ready.to(hardware.device)
    layout = memory_layout(geometry.dims)
    ready = ready.to(memory_format=layout)  # type: ignore[call-overload]
    _log.info(
        "running on %s in %s (%s)",
        hardware.device,
        hardware.precision,
        hardware.reason,
    )
    stream = None
    if isinstance(ready, TrimmedNetwork) and geometry.dims == 3:
        stream = stream_of(ready.traced)
    features = None if stream is None else features_of(network)
    return Engine(ready, hardware, "torch", geometry, stream, features)


def run_halving(engine: Engine, batch: Tensor, keep: Keep | None = None) -> Tensor:
    """Return the engine's logits; out of memory halves the batch and goes on.

    Raises
    ------
    EnvironmentFault
        If not even one window fits.
    """
    try:
        logits = engine(batch, keep)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        if len(batch) == 1:
            message = (
                f"one window of {list(batch.shape[2:])} voxels does not fit into "
                "memory; give a smaller window, or free memory"
            )
            raise EnvironmentFault(message) from error
        half = len(batch) // 2
    else:
        bound_memory()
        return logits
    _log.warning("out of memory: going on with batches of %d", half)
    parts: Sequence[Tensor] = [
        run_halving(engine, part, keep) for part in (batch[:half], batch[half:])
    ]
    return torch.cat(list(parts))


def stream_halving(
    engine: Engine,
    read: Callable[[int, int], Tensor],
    sides: tuple[int, ...],
    keep: Keep,
) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Yield the planes of a window; out of memory takes fewer at a time and goes on.

    Parameters are those of `Engine.planes`.

    Raises
    ------
    EnvironmentFault
        If not even one plane at a time fits.
    """
    along, *inner = keep
    first, depth = along.start, DEPTH
    while first < along.stop:
        rest = (slice(first, along.stop), *inner)
        try:
            for (low, high), logits in engine.planes(read, sides, rest, depth):
                yield (low, high), logits
                first = high
                bound_memory()
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if depth == 1:
                message = (
                    f"a window of {list(sides[1:])} pixels a plane does not fit into "
                    "memory; give a smaller window, or free memory"
                )
                raise EnvironmentFault(message) from error
            depth //= 2
            _log.warning("out of memory: going on with %d planes at a time", depth)


def memory_layout(dims: int) -> torch.memory_format:
    """Return the memory layout in which convolutions run best."""
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
        or "could not allocate" in text
    )

"""Keep a prediction within the memory that the user allows."""

import logging
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from cellseg3d.acceleration.prepare import Engine
from cellseg3d.acceleration.trim import TrimmedNetwork
from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.memory import resident_bytes
from cellseg3d.core.roi import zyx
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.sources import Source

_log = logging.getLogger(__name__)
# Copies that layers make on their way, on top of the features that are alive.
SLACK = 1.5
# Bytes a voxel of a window where the network could not be traced.
UNTRACED = 512


def within(pipeline: Pipeline, limit: int) -> Pipeline:
    """Return a pipeline that fits into memory: smaller batches, chunks, windows.

    Windows come last, because only they change the answer, within the error that the
    bundle's halo has; the user is told.

    Parameters
    ----------
    pipeline : Pipeline
    limit : int
        Bytes that the whole process may take; on a GPU, that windows may take there.

    Raises
    ------
    EnvironmentFault
        If not even the least window fits.
    """
    on_gpu = pipeline.sources[0].engine.hardware.device.type == "cuda"
    room = limit - (0 if on_gpu else resident_bytes())
    rates = {id(source.engine): rate_of(source) for source in pipeline.sources}

    def needed(tried: Pipeline) -> int:
        windows = [
            window_bytes(source, rates[id(source.engine)]) for source in tried.sources
        ]
        return int(max(windows)) + (0 if on_gpu else chunk_bytes(tried))

    while needed(pipeline) > room:
        smaller = _smaller(pipeline)
        if smaller is None:
            least, left = needed(pipeline) / 2**20, room / 2**20
            message = (
                f"memory limit of {limit / 2**20:.0f} MiB: {left:.0f} MiB are left, "
                f"the least window needs {least:.0f}; allow more"
            )
            raise EnvironmentFault(message)
        pipeline = smaller
    return pipeline


def chunk_bytes(pipeline: Pipeline) -> int:
    """Return what is held of one chunk: labels, or sums that labels overwrite."""
    sources, each = len(pipeline.sources), 1
    if sources > 1:
        each = pipeline.fusion.bytes_per_voxel(sources, pipeline.classes)
    if pipeline.probs or pipeline.uncertainty:
        each += 1 + 12 * pipeline.classes
    return math.prod(pipeline.chunk) * each


def window_bytes(source: Source, rate: float) -> float:
    """Return what a source holds at once, at its `rate_of`."""
    shape, axis = source.lattice.window, source.lattice.axis
    voxels = math.prod(shape)
    if source.streamed:
        return SLACK * rate * shape[1] * shape[2]
    if axis is None:
        return voxels * rate * source.batch
    # A run of slices is read at once, in its own format and in float32.
    return voxels / shape[axis_index(axis)] * rate * source.batch + 8 * voxels


def rate_of(source: Source) -> float:
    """Return bytes a pixel of a plane, where windows are streamed; else a voxel."""
    if source.streamed:
        return source.engine.bytes_per_pixel
    return bytes_per_voxel(source.engine)


def bytes_per_voxel(engine: Engine) -> float:
    """Return the peak memory of a window's features, in bytes a voxel of its input.

    Measured on noise: the features that are alive at once, in the engine's format.
    """
    network, geometry = engine.network, engine.geometry
    if not isinstance(network, TrimmedNetwork):
        return UNTRACED
    noise = geometry.noise().to(engine.hardware.device, engine.hardware.dtype)
    meter = _Meter(network.traced)
    with torch.inference_mode():
        meter.run(noise)
    voxels = math.prod(noise.shape[2:])
    # The input comes in float32 too.
    return SLACK * meter.peak / voxels + 8 * geometry.channels


class _Meter(fx.Interpreter):
    """Runs a graph and notes the most bytes that were alive at once."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.peak = 0

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401
        """Run a node; what it needs and what it makes are alive together."""
        made = super().run_node(n)
        alive = [value for value in self.env.values() if isinstance(value, Tensor)]
        if isinstance(made, Tensor):
            alive.append(made)
        sizes = {id(value): value.numel() * value.element_size() for value in alive}
        self.peak = max(self.peak, sum(sizes.values()))
        return made


def _smaller(pipeline: Pipeline) -> Pipeline | None:
    """Return the next smaller pipeline; None when there is none."""
    batch = max(source.batch for source in pipeline.sources)
    if batch > 1:
        sources = [
            replace(source, batch=max(1, source.batch // 2))
            for source in pipeline.sources
        ]
        return replace(pipeline, sources=tuple(sources))
    cores = [
        max(source.lattice.core[axis] for source in pipeline.sources)
        for axis in range(3)
    ]
    chunk = [
        max(core, -(-side // 2 // core) * core) if side > core else side
        for side, core in zip(pipeline.chunk, cores, strict=True)
    ]
    if chunk != list(pipeline.chunk):
        return replace(pipeline, chunk=zyx(chunk))
    widest = max(max(_costly(source)) for source in pipeline.sources)
    if widest <= max(max(s.lattice.stride) for s in pipeline.sources):
        return None
    _log.warning(
        "memory limit: windows smaller than the bundle's; labels may differ at their "
        "seams, within the error of its halo"
    )
    sources = [_narrowed(source) for source in pipeline.sources]
    side = [max(source.lattice.core[axis] for source in sources) for axis in range(3)]
    return replace(pipeline, sources=tuple(sources), chunk=zyx(side))


def _narrowed(source: Source) -> Source:
    """Return a source with the longest of the sides that cost memory halved."""
    core, costly = list(source.lattice.core), _costly(source)
    longest = core.index(max(costly), len(core) - len(costly))
    core[longest] = max(1, core[longest] // 2)
    return replace(source, lattice=source.lattice.with_core(core))


def _costly(source: Source) -> list[int]:
    """Return the sides of a source's cores; how long streamed windows are is free."""
    return list(source.lattice.core)[1 if source.streamed else 0 :]

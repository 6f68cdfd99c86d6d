"""Keep a prediction within the memory that the user allows."""

import logging
import math
from dataclasses import replace

from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.core.memory import resident_bytes
from cellseg3d.core.roi import zyx
from cellseg3d.prediction.pipeline import Pipeline
from cellseg3d.prediction.sources import STREAMED_PLANES, Source

_log = logging.getLogger(__name__)


def within(pipeline: Pipeline, limit: int) -> Pipeline:
    """Return a pipeline that needs no more memory than the limit.

    Batches are made smaller first, then chunks, then windows. Windows come last because
    they alone change the labels, within the error of the bundle's halo; a warning says
    so.

    Parameters
    ----------
    pipeline : Pipeline
    limit : int
        Bytes that the whole process may take. On a GPU, it counts the bytes that
        windows take there.

    Raises
    ------
    EnvironmentFault
        If even the smallest window does not fit.
    """
    on_gpu = pipeline.sources[0].network.hardware.device.type == "cuda"
    room = limit - (0 if on_gpu else resident_bytes())

    def needed(tried: Pipeline) -> int:
        windows = max(window_bytes(source) for source in tried.sources)
        return int(windows) + (0 if on_gpu else chunk_bytes(tried))

    while needed(pipeline) > room:
        smaller = _smaller(pipeline)
        if smaller is None:
            least, left = needed(pipeline) / 2**20, room / 2**20
            message = (
                f"memory limit of {limit / 2**20:.0f} MiB: {left:.0f} MiB are left for "
                f"windows, and the smallest needs {least:.0f} MiB; raise "
                f"`{'max_vram' if on_gpu else 'max_ram'}`"
            )
            raise EnvironmentFault(message)
        pipeline = smaller
    return pipeline


def chunk_bytes(pipeline: Pipeline) -> int:
    """Return the bytes that one chunk's labels, sums and probabilities take."""
    sources, each = len(pipeline.sources), 1
    if sources > 1:
        each = pipeline.fusion.bytes_per_voxel(sources, pipeline.classes)
    if pipeline.probs or pipeline.uncertainty:
        each += 1 + 12 * pipeline.classes
    return math.prod(pipeline.chunk) * each


def window_bytes(source: Source) -> float:
    """Return the bytes that one window of a source takes."""
    window, axis = source.lattice.window, source.lattice.axis
    across = 0 if axis is None else axis_index(axis)
    shape = [window[across], *(side for n, side in enumerate(window) if n != across)]
    return source.network.held_bytes(zyx(shape), source.planes)


def _smaller(pipeline: Pipeline) -> Pipeline | None:
    """Return the pipeline one step smaller; None if it cannot shrink further."""
    together = max(_together(source) for source in pipeline.sources)
    if together > 1:
        sources = [
            replace(source, planes=min(source.planes, together // 2))
            if _together(source) > 1
            else source
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
        "memory limit: windows are made smaller than the bundle's; labels may differ "
        "where windows meet, within the error of its halo"
    )
    sources = [_narrowed(source) for source in pipeline.sources]
    side = [max(source.lattice.core[axis] for source in sources) for axis in range(3)]
    return replace(pipeline, sources=tuple(sources), chunk=zyx(side))


def _together(source: Source) -> int:
    """Return how many planes run together; 1 if fewer would save no memory."""
    if source.lattice.axis is not None:
        return source.planes
    few = not source.runs_in_planes or source.planes <= STREAMED_PLANES[-1]
    return 1 if few else source.planes


def _narrowed(source: Source) -> Source:
    """Return a source whose longest side that takes memory is halved."""
    core, costly = list(source.lattice.core), _costly(source)
    longest = core.index(max(costly), len(core) - len(costly))
    core[longest] = max(1, core[longest] // 2)
    return replace(source, lattice=source.lattice.with_core(core))


def _costly(source: Source) -> list[int]:
    """Return the sides of a source's cores that take memory.

    A window that runs some planes at a time takes the same memory whatever its length,
    so its length is left out.
    """
    return list(source.lattice.core)[1 if source.runs_in_planes else 0 :]

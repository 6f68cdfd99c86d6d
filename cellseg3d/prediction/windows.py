"""Predict a volume in 3D windows on the lattice; only the core of each is kept."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellseg3d.acceleration.prepare import Engine, run_halving, stream_halving
from cellseg3d.core.errors import CoverageError
from cellseg3d.core.grid import Tile
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.prediction.field import Field
from cellseg3d.prediction.fusion import probs_of
from cellseg3d.prediction.lattice import Lattice
from cellseg3d.prediction.slices import whole_windows


def sweep_windows(
    field: Field, engine: Engine, lattice: Lattice, chunk: Roi, batch: int = 1
) -> Iterator[tuple[Roi, Tensor]]:
    """Yield the logits of every window that writes into a chunk.

    With frozen normalisation and a halo as wide as the receptive field they equal
    those of one pass over the whole volume, to float rounding.

    Parameters
    ----------
    field : Field
        What the network sees.
    engine : Engine
    lattice : Lattice
        Of a 3D network on this field.
    chunk : Roi
        Part of the volume.
    batch : int
        Windows of the same shape that run together; those that are streamed, some
        planes at a time, run one by one.

    Yields
    ------
    tuple of Roi and tensor of shape (K, *roi.shape)
        Each voxel of the chunk in exactly one.
    """
    if engine.stream is not None:
        for tile in lattice.windows(chunk):
            yield from _streamed(field, engine, tile, chunk)
        return
    for tiles in _alike(lattice.windows(chunk), batch):
        stacked = np.stack([field.read(tile.read) for tile in tiles])
        keep = tiles[0].write.within(tiles[0].read).slices
        logits = run_halving(engine, torch.from_numpy(stacked), keep)
        for tile, one in zip(tiles, logits, strict=True):
            yield tile.write, one


def _streamed(
    field: Field, engine: Engine, tile: Tile, chunk: Roi
) -> Iterator[tuple[Roi, Tensor]]:
    """Yield the logits of one window, plane after plane, until the chunk ends."""
    box = tile.read
    keep = tile.write.within(box).slices
    with ThreadPoolExecutor(1) as reader:
        ahead = _ReadAhead(field, box, reader)
        for (low, high), logits in stream_halving(engine, ahead, box.shape, keep):
            roi = _planes_of(tile.write, box.start[0] + low, box.start[0] + high)
            if roi.stop[0] > chunk.start[0]:
                yield roi, logits[0]
            if roi.stop[0] >= chunk.stop[0]:
                return


class _ReadAhead:
    """Reads planes of a window, and the next ones while a network is at work."""

    def __init__(self, field: Field, box: Roi, reader: Executor) -> None:
        self.field, self.box, self.reader = field, box, reader
        self.planes = (0, 0)
        self.coming: Future[NDArray[np.float32]] | None = None

    def __call__(self, low: int, high: int) -> Tensor:
        """Return planes (1, C, z, y, x) of the window."""
        known = None if self.coming is None else self.coming.result()
        if known is None or self.planes != (low, high):
            known = self._read(low, high)
        length = self.box.shape[0]
        self.planes = (high, min(2 * high - low, length))
        self.coming = None
        if high < length:
            self.coming = self.reader.submit(self._read, *self.planes)
        return torch.from_numpy(known[None])

    def _read(self, low: int, high: int) -> NDArray[np.float32]:
        first = self.box.start[0]
        return self.field.read(_planes_of(self.box, first + low, first + high))


def _planes_of(box: Roi, first: int, stop: int) -> Roi:
    """Return a box between two planes along z."""
    return Roi(zyx([first, *box.start[1:]]), zyx([stop, *box.stop[1:]]))


def blend_windows(
    field: Field, engine: Engine, lattice: Lattice, chunk: Roi, batch: int = 1
) -> Iterator[tuple[Roi, Tensor]]:
    """Yield the probabilities of a chunk, blended from overlapping windows.

    For networks whose normalisation sees the whole window, whose answers jump from
    one window to the next. Each window counts with its core and its halo, weighted
    down towards its border, so that answers pass smoothly into each other; a
    constant comes back unchanged.

    Parameters
    ----------
    field, engine, lattice, batch
        As for `sweep_windows`, or of slices, which overlap within their planes;
        windows overlap by their halos.
    chunk : Roi
        Part of the volume.

    Yields
    ------
    tuple of Roi and tensor of float32, shape (K, *chunk.shape)
        Once: the logarithm of the probabilities.

    Raises
    ------
    CoverageError
        If some voxel lies in no window.
    """
    total: Tensor | None = None
    weights = torch.zeros(chunk.shape)
    reach = [
        0 if letter == lattice.axis else halo
        for letter, halo in zip("zyx", lattice.halo, strict=True)
    ]
    around = chunk.grow(reach).clip(lattice.shape)
    if lattice.axis is None:
        windows = _whole_windows(field, engine, lattice, around, batch)
    else:
        windows = whole_windows(field, engine, lattice, around, batch)
    for tile, logits in windows:
        part = tile.read.intersect(chunk)
        if part.size == 0:
            continue
        inner = part.within(tile.read).slices
        weight = window_weight(tile, lattice)[inner]
        probs = probs_of(logits[(slice(None), *inner)])
        if total is None:
            total = torch.zeros((len(probs), *chunk.shape))
        place = part.within(chunk).slices
        total[(slice(None), *place)] += probs * weight
        weights[place] += weight
    if total is None or float(weights.min()) <= 0:
        message = f"region {chunk}: some voxel lies in no window; widen the core"
        raise CoverageError(message)
    yield chunk, (total / weights).clamp_min(1e-7).log()


def _whole_windows(
    field: Field, engine: Engine, lattice: Lattice, around: Roi, batch: int
) -> Iterator[tuple[Tile, Tensor]]:
    """Yield 3D windows with the logits of all that they read."""
    for tiles in _alike(lattice.windows(around), batch):
        stacked = np.stack([field.read(tile.read) for tile in tiles])
        logits_nkzyx = run_halving(engine, torch.from_numpy(stacked))
        yield from zip(tiles, logits_nkzyx, strict=True)


def window_weight(tile: Tile, lattice: Lattice) -> Tensor:
    """Return the weight of each voxel of a window, shape of its read box, > 0.

    1 in the core's middle, falling as a squared cosine across the overlap with each
    neighbour, so that the weights of two neighbours add up to 1; at the volume's
    border there is no neighbour and nothing falls.
    """
    weight = torch.ones(())
    for axis, letter in enumerate("zyx"):
        low, high = tile.read.start[axis], tile.read.stop[axis]
        if letter == lattice.axis:
            weight = weight[..., None] * torch.ones(high - low)
            continue
        place = torch.arange(low, high) + 0.5
        first = float(tile.write.start[axis])
        last = first + lattice.core[axis]
        reach = float(max(1, lattice.halo[axis]))
        rise = ((place - first) / reach + 1) / 2
        fall = ((last - place) / reach + 1) / 2
        profile = torch.ones(high - low)
        if low > 0:
            profile = profile * torch.sin(rise.clamp(0, 1) * torch.pi / 2) ** 2
        if high < lattice.padded[axis]:
            profile = profile * torch.sin(fall.clamp(0, 1) * torch.pi / 2) ** 2
        weight = weight[..., None] * profile
    return weight.clamp_min(1e-4)


def _alike(tiles: Iterable[Tile], batch: int) -> Iterator[list[Tile]]:
    """Yield runs of tiles whose shapes, and cores within them, are the same."""
    waiting: list[Tile] = []
    for tile in tiles:
        if waiting and (len(waiting) == batch or not _same(waiting[0], tile)):
            yield waiting
            waiting = []
        waiting.append(tile)
    if waiting:
        yield waiting


def _same(one: Tile, other: Tile) -> bool:
    same_core = one.write.within(one.read) == other.write.within(other.read)
    return same_core and one.read.shape == other.read.shape

"""Predict a volume window by window, in slices or in 3D; only each core is kept."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import CoverageError
from cellseg3d.core.grid import Tile
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.models.prepared import PreparedNetwork
from cellseg3d.prediction.field import Field
from cellseg3d.prediction.fusion import probs_of
from cellseg3d.prediction.lattice import Lattice
from cellseg3d.prediction.scarce_memory import logits_in_scarce_memory


def sweep_windows(
    field: Field, network: PreparedNetwork, lattice: Lattice, chunk: Roi, planes: int
) -> Iterator[tuple[Roi, Tensor]]:
    """Yield the logits of every window that writes into a chunk.

    With frozen normalisation and a halo as wide as the receptive field they equal
    those of one pass over the whole volume, to float rounding. Slices past the first
    and the last of the volume repeat these.

    Parameters
    ----------
    field : Field
        What the network sees.
    network : PreparedNetwork
    lattice : Lattice
        Of windows of this network on this field.
    chunk : Roi
        Part of the volume.
    planes : int
        Planes of the answer that are computed together.

    Yields
    ------
    tuple of Roi and tensor of shape (K, *roi.shape)
        Each voxel of the chunk in exactly one; some may lie outside the chunk.
    """
    across = axis_index(lattice.axis or "z")
    for whole in lattice.windows(chunk):
        tile = whole if lattice.axis is None else _only(whole, chunk, lattice)
        for roi, logits in answers_of(field, network, tile, across, planes):
            if roi.stop[across] > chunk.start[across]:
                yield roi, logits
            if roi.stop[across] >= chunk.stop[across]:
                break


def answers_of(
    field: Field, network: PreparedNetwork, tile: Tile, across: int, planes: int
) -> Iterator[tuple[Roi, Tensor]]:
    """Yield the logits of what a window writes, some planes at a time.

    Parameters
    ----------
    field, network, planes
        As for `sweep_windows`.
    tile : Tile
        The boxes that the window reads and writes.
    across : int
        The axis along which the window's planes are counted.

    Yields
    ------
    tuple of Roi and tensor of shape (K, *roi.shape)
    """
    box = tile.read
    keep = tile.write.within(box).slices
    order = (across, *(axis for axis in range(3) if axis != across))
    window = zyx([box.shape[axis] for axis in order])
    kept = (keep[order[0]], keep[order[1]], keep[order[2]])
    with ThreadPoolExecutor(1) as reader:
        read = _ReadAhead(field, box, across, reader)
        for first, logits in logits_in_scarce_memory(
            network, read, window, kept, planes
        ):
            low = box.start[across] + first
            roi = _cut(tile.write, across, low, low + logits.shape[1])
            yield roi, logits.movedim(1, across + 1)


class _ReadAhead:
    """Reads planes of a window, and the next ones while a network is at work."""

    def __init__(self, field: Field, box: Roi, across: int, reader: Executor) -> None:
        self.field, self.box, self.across, self.reader = field, box, across, reader
        self.planes = (0, 0)
        self.coming: Future[NDArray[np.float32]] | None = None

    def __call__(self, low: int, high: int) -> Tensor:
        """Return planes (C, n, h, w) of the window."""
        known = None if self.coming is None else self.coming.result()
        if known is None or self.planes != (low, high):
            known = self._read(low, high)
        length = self.box.shape[self.across]
        self.planes = (high, min(2 * high - low, length))
        self.coming = None
        if high < length:
            self.coming = self.reader.submit(self._read, *self.planes)
        return torch.from_numpy(known).movedim(self.across + 1, 1)

    def _read(self, low: int, high: int) -> NDArray[np.float32]:
        first = self.box.start[self.across]
        return self.field.read(_cut(self.box, self.across, first + low, first + high))


def _only(tile: Tile, chunk: Roi, lattice: Lattice) -> Tile:
    """Return a run of slices without those that lie outside the chunk."""
    across = axis_index(lattice.axis or "z")
    context = lattice.halo[across]
    first = max(tile.write.start[across], chunk.start[across])
    last = min(tile.write.stop[across], chunk.stop[across])
    return Tile(
        _cut(tile.read, across, first - context, last + context),
        _cut(tile.write, across, first, last),
    )


def _cut(box: Roi, axis: int, first: int, stop: int) -> Roi:
    """Return a box from one plane of an axis up to another."""
    start, end = list(box.start), list(box.stop)
    start[axis], end[axis] = first, stop
    return Roi(zyx(start), zyx(end))


def blend_windows(
    field: Field, network: PreparedNetwork, lattice: Lattice, chunk: Roi, planes: int
) -> Iterator[tuple[Roi, Tensor]]:
    """Yield the probabilities of a chunk, blended from overlapping windows.

    For networks whose normalisation sees the whole window, whose answers jump from
    one window to the next. Each window counts with its core and its halo, weighted
    down towards its border, so that answers pass smoothly into each other; a
    constant comes back unchanged.

    Parameters
    ----------
    field, network, lattice, planes
        As for `sweep_windows`; windows overlap by their halos, slices within their
        planes alone.
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
    for tile in _overlapping(lattice, chunk):
        weight = window_weight(tile, lattice)
        across = axis_index(lattice.axis or "z")
        everything = Tile(tile.read, _all_pixels(tile, lattice))
        for roi, logits in answers_of(field, network, everything, across, planes):
            part = roi.intersect(chunk)
            if part.size == 0:
                continue
            probs = probs_of(logits[(slice(None), *part.within(roi).slices)])
            if total is None:
                total = torch.zeros((len(probs), *chunk.shape))
            inner = weight[part.within(tile.read).slices]
            place = part.within(chunk).slices
            total[(slice(None), *place)] += probs * inner
            weights[place] += inner
    if total is None or float(weights.min()) <= 0:
        message = f"region {chunk}: some voxel lies in no window; widen the core"
        raise CoverageError(message)
    yield chunk, (total / weights).clamp_min(1e-7).log()


def _overlapping(lattice: Lattice, chunk: Roi) -> Iterator[Tile]:
    """Yield the windows that reach into a chunk with their cores or their halos."""
    reach = [
        0 if letter == lattice.axis else halo
        for letter, halo in zip("zyx", lattice.halo, strict=True)
    ]
    around = chunk.grow(reach).clip(lattice.shape)
    for tile in lattice.windows(around):
        yield tile if lattice.axis is None else _only(tile, around, lattice)


def _all_pixels(tile: Tile, lattice: Lattice) -> Roi:
    """Return what a window reads; of slices, only those that it writes."""
    if lattice.axis is None:
        return tile.read
    across = axis_index(lattice.axis)
    return _cut(tile.read, across, tile.write.start[across], tile.write.stop[across])


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

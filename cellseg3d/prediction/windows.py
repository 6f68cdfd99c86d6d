"""Predict a volume window by window, in slices or in 3D.

Each window reads its core and a halo around it, and only the core's answer is kept.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

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

    If the normalisation is frozen and the halo is as wide as the receptive field, the
    logits equal those of one pass over the whole volume, up to rounding. The first and
    the last slice stand for slices past the ends of the volume.

    Parameters
    ----------
    field : Field
        The scaled intensities that the network sees.
    network : PreparedNetwork
    lattice : Lattice
        The windows of this network on this field.
    chunk : Roi
        The part of the volume that is wanted.
    planes : int
        Planes of the answer that are computed together.

    Yields
    ------
    tuple of Roi and tensor of shape (K, *roi.shape)
        Each voxel of the chunk lies in exactly one of them. Some of their voxels may
        lie outside the chunk.
    """
    across = axis_index(lattice.axis or "z")
    tiles = [
        whole if lattice.axis is None else _only(whole, chunk, lattice)
        for whole in lattice.windows(chunk)
    ]
    with ReadAhead(field, across) as ahead:
        for tile, after in zip(tiles, [*tiles[1:], None], strict=True):
            for roi, logits in answers_of(ahead, network, tile, after, planes):
                if roi.stop[across] > chunk.start[across]:
                    yield roi, logits
                if roi.stop[across] >= chunk.stop[across]:
                    break


def answers_of(
    ahead: "ReadAhead",
    network: PreparedNetwork,
    tile: Tile,
    after: Tile | None,
    planes: int,
) -> Iterator[tuple[Roi, Tensor]]:
    """Yield the logits of the part that a window writes, some planes at a time.

    Parameters
    ----------
    ahead : ReadAhead
        Reads the window's planes, which are counted along its axis.
    network, planes
        As for `sweep_windows`.
    tile : Tile
        The boxes that the window reads and writes.
    after : Tile or None
        The window that comes next, whose first planes are read while this one's last
        are computed.

    Yields
    ------
    tuple of Roi and tensor of shape (K, *roi.shape)
    """
    box, across = tile.read, ahead.across
    keep = tile.write.within(box).slices
    order = (across, *(axis for axis in range(3) if axis != across))
    window = zyx([box.shape[axis] for axis in order])
    kept = (keep[order[0]], keep[order[1]], keep[order[2]])

    def read(low: int, high: int) -> Tensor:
        first = box.start[across]
        coming = None
        if high < window[0]:
            last = min(2 * high - low, window[0])
            coming = _cut(box, across, first + high, first + last)
        elif after is not None:
            begin = after.read.start[across]
            last = min(begin + high - low, after.read.stop[across])
            coming = _cut(after.read, across, begin, last)
        return ahead(_cut(box, across, first + low, first + high), coming)

    for first, logits in logits_in_scarce_memory(network, read, window, kept, planes):
        low = box.start[across] + first
        roi = _cut(tile.write, across, low, low + logits.shape[1])
        yield roi, logits.movedim(1, across + 1)


class ReadAhead:
    """Read boxes of a field, and the next box while the network computes.

    Parameters
    ----------
    field : Field
    across : int
        The axis along which planes are counted.
    """

    def __init__(self, field: Field, across: int) -> None:
        self.field, self.across = field, across
        self.reader = ThreadPoolExecutor(1, "read-ahead")
        self.coming: tuple[Roi, Future[NDArray[np.float32]]] | None = None

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.shutdown(cancel_futures=True)

    def __call__(self, box: Roi, coming: Roi | None) -> Tensor:
        """Return the planes (C, n, h, w) of a box, and begin to read the next one."""
        known = None
        if self.coming is not None:
            place, future = self.coming
            found = future.result()
            known = found if place == box else None
        image_czyx = self.field.read(box) if known is None else known
        self.coming = None
        if coming is not None:
            self.coming = coming, self.reader.submit(self.field.read, coming)
        return torch.from_numpy(image_czyx).movedim(self.across + 1, 1)


def _only(tile: Tile, chunk: Roi, lattice: Lattice) -> Tile:
    """Return a tile of slices without the slices that lie outside the chunk."""
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

    This is for networks whose normalisation depends on the whole window, because their
    answers jump from one window to the next. Each window counts with its core and its
    halo, with weights that fall towards its border, so the answers change smoothly. If
    all windows give the same constant, the result is that constant.

    Parameters
    ----------
    field, network, lattice, planes
        As for `sweep_windows`. Windows overlap by their halos; those of slices overlap
        only within the slices.
    chunk : Roi
        The part of the volume that is wanted.

    Yields
    ------
    tuple of Roi and tensor of float32, shape (K, *chunk.shape)
        The chunk and the logarithm of its probabilities, once.

    Raises
    ------
    CoverageError
        If some voxel lies in no window.
    """
    total: Tensor | None = None
    home = network.hardware.home
    weights = torch.zeros(chunk.shape, device=home)
    tiles = list(_overlapping(lattice, chunk))
    with ReadAhead(field, axis_index(lattice.axis or "z")) as ahead:
        for tile, after in zip(tiles, [*tiles[1:], None], strict=True):
            weight = window_weight(tile, lattice).to(home)
            everything = Tile(tile.read, _all_pixels(tile, lattice))
            for roi, logits in answers_of(ahead, network, everything, after, planes):
                part = roi.intersect(chunk)
                if part.size == 0:
                    continue
                probs = probs_of(logits[(slice(None), *part.within(roi).slices)])
                if total is None:
                    total = torch.zeros((len(probs), *chunk.shape), device=home)
                inner = weight[part.within(tile.read).slices]
                place = part.within(chunk).slices
                total[(slice(None), *place)] += probs * inner
                weights[place] += inner
    if total is None or float(weights.min()) <= 0:
        message = (
            f"region {chunk}: some voxels lie in no window of core {lattice.core} and "
            f"halo {lattice.halo}; set a larger window::core"
        )
        raise CoverageError(message)
    yield chunk, (total / weights).clamp_min(1e-7).log()


def _overlapping(lattice: Lattice, chunk: Roi) -> Iterator[Tile]:
    """Yield the windows whose core or halo reaches into a chunk."""
    reach = [
        0 if letter == lattice.axis else halo
        for letter, halo in zip("zyx", lattice.halo, strict=True)
    ]
    around = chunk.grow(reach).clip(lattice.shape)
    for tile in lattice.windows(around):
        yield tile if lattice.axis is None else _only(tile, around, lattice)


def _all_pixels(tile: Tile, lattice: Lattice) -> Roi:
    """Return the box that a window reads, but only the slices that it writes."""
    if lattice.axis is None:
        return tile.read
    across = axis_index(lattice.axis)
    return _cut(tile.read, across, tile.write.start[across], tile.write.stop[across])


def window_weight(tile: Tile, lattice: Lattice) -> Tensor:
    """Return the weight of each voxel that a window reads, > 0.

    The weight is 1 in the middle of the core. Across the overlap with each neighbour it
    falls as a squared cosine, so that the weights of two neighbours add up to 1. It
    does not fall towards the volume's border, where there is no neighbour.
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

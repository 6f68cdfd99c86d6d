"""Predict a volume slice by slice, or in stacks of slices, along any axis."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellseg3d.core.axes import axis_index
from cellseg3d.core.grid import Tile
from cellseg3d.core.roi import Roi
from cellseg3d.inference.engine import Engine, run_halving
from cellseg3d.inference.field import Field
from cellseg3d.inference.lattice import Lattice


def sweep_slices(
    field: Field, engine: Engine, lattice: Lattice, chunk: Roi, batch: int = 1
) -> Iterator[tuple[Roi, Tensor]]:
    """Yield the logits of every run of slices that writes into a chunk.

    A run holds as many neighbouring slices as the lattice's core is thick; it is read
    once, and `batch` of its slices run together. Slices past the first and the last
    repeat these.

    Parameters
    ----------
    field : Field
        What the network sees.
    engine : Engine
        Of a 2D or 2.5D network.
    lattice : Lattice
        Of slices across ``lattice.axis`` of this field.
    chunk : Roi
        Part of the volume.
    batch : int

    Yields
    ------
    tuple of Roi and tensor of shape (K, *roi.shape)
        Each voxel of the chunk in exactly one.
    """
    across = axis_index(lattice.axis or "z")
    for tile, first, stacks in _batches(field, lattice, chunk, batch):
        keep = list(tile.write.within(tile.read).slices)
        del keep[across]
        logits_nkhw = run_halving(engine, stacks, tuple(keep))
        write = _cut(tile.write, across, first, first + len(stacks))
        yield write, logits_nkhw.movedim(0, across + 1)


def whole_windows(
    field: Field, engine: Engine, lattice: Lattice, around: Roi, batch: int = 1
) -> Iterator[tuple[Tile, Tensor]]:
    """Yield runs of slices with the logits of all that they read within their planes.

    As `sweep_slices`, but nothing is cut away: for windows that are blended.

    Yields
    ------
    tuple of Tile and tensor of shape (K, *tile.read.shape)
        The tile's read box holds the slices that it writes, and no others.
    """
    across = axis_index(lattice.axis or "z")
    for tile, first, stacks in _batches(field, lattice, around, batch):
        logits_nkhw = run_halving(engine, stacks)
        last = first + len(stacks)
        read, write = (
            _cut(box, across, first, last) for box in (tile.read, tile.write)
        )
        yield Tile(read, write), logits_nkhw.movedim(0, across + 1)


def _batches(
    field: Field, lattice: Lattice, chunk: Roi, batch: int
) -> Iterator[tuple[Tile, int, Tensor]]:
    """Yield each run of slices in batches: its tile, the first slice, the stacks."""
    across = axis_index(lattice.axis or "z")
    context = lattice.halo[across]
    for whole in lattice.windows(chunk):
        tile = _only(whole, chunk, across, context)
        stacks = torch.from_numpy(stack_slices(field.read(tile.read), across, context))
        for index in range(0, len(stacks), batch):
            yield tile, tile.write.start[across] + index, stacks[index : index + batch]


def stack_slices(
    image_czyx: NDArray[np.float32], across: int, context: int
) -> NDArray[np.float32]:
    """Return every stack of 2 * context + 1 neighbouring slices, without a copy.

    Parameters
    ----------
    image_czyx : ndarray of float32, shape (C, z, y, x)
    across : {0, 1, 2}
        Position in (z, y, x) of the axis across which slices are cut.
    context : int
        Slices on each side of the centre slice.

    Returns
    -------
    ndarray of float32, shape (n, C * (2 * context + 1), h, w)
        n is the length of the axis less 2 * context; a view for C = 1.
    """
    depth = 2 * context + 1
    view = np.lib.stride_tricks.sliding_window_view(
        image_czyx, depth, across + 1, writeable=True
    )
    stacks = np.moveaxis(view, (across + 1, -1), (0, 2))
    n, channels, _, height, width = stacks.shape
    return stacks.reshape(n, channels * depth, height, width)


def _only(tile: Tile, chunk: Roi, across: int, context: int) -> Tile:
    """Return the tile without the slices that lie outside the chunk."""
    first = max(tile.write.start[across], chunk.start[across])
    last = min(tile.write.stop[across], chunk.stop[across])
    return Tile(
        _cut(tile.read, across, first - context, last + context),
        _cut(tile.write, across, first, last),
    )


def _cut(roi: Roi, across: int, first: int, last: int) -> Roi:
    start, stop = list(roi.start), list(roi.stop)
    start[across], stop[across] = first, last
    return Roi((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

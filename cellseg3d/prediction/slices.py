"""Predict a volume slice by slice, or in stacks of slices, along any axis."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cellseg3d.acceleration.prepare import Engine, run_halving
from cellseg3d.core.axes import axis_index
from cellseg3d.core.grid import Tile
from cellseg3d.core.roi import Roi
from cellseg3d.prediction.field import Field
from cellseg3d.prediction.lattice import Lattice


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
    for tile, first, stacks in _batches(field, engine, lattice, chunk, batch):
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
    for tile, first, stacks in _batches(field, engine, lattice, around, batch):
        logits_nkhw = run_halving(engine, stacks)
        last = first + len(stacks)
        read, write = (
            _cut(box, across, first, last) for box in (tile.read, tile.write)
        )
        yield Tile(read, write), logits_nkhw.movedim(0, across + 1)


def _batches(
    field: Field, engine: Engine, lattice: Lattice, chunk: Roi, batch: int
) -> Iterator[tuple[Tile, int, Tensor]]:
    """Yield each run of slices in batches: its tile, the first slice, the stacks."""
    across = axis_index(lattice.axis or "z")
    context = lattice.halo[across]
    for whole in lattice.windows(chunk):
        tile = _only(whole, chunk, across, context)
        # Placed once for all the stacks that a slice is part of.
        slices_cnhw = engine.placed(
            torch.from_numpy(field.read(tile.read)).movedim(across + 1, 1)
        )
        stacks = stack_slices(slices_cnhw, context)
        for index in range(0, len(stacks), batch):
            yield tile, tile.write.start[across] + index, stacks[index : index + batch]


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

"""Predict a volume in 3D windows on the lattice; only the core of each is kept."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from cellseg3d.core.grid import Tile
from cellseg3d.core.roi import Roi
from cellseg3d.inference.engine import Engine, run_halving
from cellseg3d.inference.field import Field
from cellseg3d.inference.lattice import Lattice


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
        Windows of the same shape that run together.

    Yields
    ------
    tuple of Roi and tensor of shape (K, *roi.shape)
        Each voxel of the chunk in exactly one.
    """
    for tiles in _alike(lattice.windows(chunk), batch):
        stacked = np.stack([field.read(tile.read) for tile in tiles])
        keep = tiles[0].write.within(tiles[0].read).slices
        logits = run_halving(engine, torch.from_numpy(stacked), keep)
        for tile, one in zip(tiles, logits, strict=True):
            yield tile.write, one


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

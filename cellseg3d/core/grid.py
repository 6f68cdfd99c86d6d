"""Cover a volume with windows or blocks whose written parts tile it exactly once."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cellseg3d.core.errors import CoverageError
from cellseg3d.core.roi import Roi, zyx


@dataclass(frozen=True, slots=True)
class Tile:
    """One unit of work: voxels read (a core and its halo) and voxels written.

    `read` may pass the border of the volume; whoever reads pads there.
    """

    read: Roi
    write: Roi


def blocks(shape: Sequence[int], block: Sequence[int] | int) -> Iterator[Roi]:
    """Yield the blocks of a regular grid in C order, the last ones cut at the border.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume (Z, Y, X), in voxels.
    block : sequence of int or int
        Shape of a block, in voxels, each > 0.

    Raises
    ------
    CoverageError
        If a side of `block` is not positive: some voxel would lie in none.
    """
    size = zyx(block)
    if min(size) < 1:
        message = f"blocks of shape {size} cover nothing; every side must be at least 1"
        raise CoverageError(message)
    whole = zyx(shape)
    ranges = (range(0, whole[axis], size[axis]) for axis in range(3))
    for start in itertools.product(*ranges):
        yield Roi.at(start, size).clip(whole)


def tiles(
    shape: Sequence[int], core: Sequence[int] | int, halo: Sequence[int] | int
) -> Iterator[Tile]:
    """Yield tiles on the global lattice of multiples of `core`, in C order.

    The cores tile the volume exactly once whatever the halo. A tile's read box is its
    full core grown by the halo, even where the core passes the border, so that every
    tile has the same shape and the same phase on the lattice.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume (Z, Y, X), in voxels.
    core : sequence of int or int
        Voxels a tile writes along each axis, a multiple of the net's total stride.
    halo : sequence of int or int
        Voxels a tile reads around its core and never writes.

    Raises
    ------
    CoverageError
        If a side of `core` is not positive.
    """
    size = zyx(core)
    for write in blocks(shape, size):
        yield Tile(read=Roi.at(write.start, size).grow(halo), write=write)

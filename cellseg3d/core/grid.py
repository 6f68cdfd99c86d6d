"""Cover a volume with windows or blocks that write each voxel exactly once."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cellseg3d.core.errors import CoverageError
from cellseg3d.core.roi import Roi, zyx


@dataclass(frozen=True, slots=True)
class Tile:
    """One unit of work: the box of voxels to read and the box of voxels to write.

    The read box is the written core plus a halo. It may reach beyond the border of the
    volume; the reader pads the voxels that are missing there.
    """

    read: Roi
    write: Roi


def blocks(shape: Sequence[int], block: Sequence[int] | int) -> Iterator[Roi]:
    """Yield the blocks of a regular grid in C order; the last ones end at the border.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume (Z, Y, X), in voxels.
    block : sequence of int or int
        Shape of a block, in voxels. Each side is at least 1.

    Raises
    ------
    CoverageError
        If a side of `block` is not positive, because the blocks would cover nothing.
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
    """Yield tiles whose cores start at multiples of `core`, in C order.

    The cores cover each voxel of the volume exactly once, whatever the halo. The box to
    read is a full core plus the halo even where it passes the border, so all tiles have
    the same shape and the same position relative to the network's strides.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume (Z, Y, X), in voxels.
    core : sequence of int or int
        Voxels that a tile writes along each axis, a multiple of the network's stride.
    halo : sequence of int or int
        Voxels that a tile reads around its core and does not write.

    Raises
    ------
    CoverageError
        If a side of `core` is not positive.
    """
    size = zyx(core)
    for write in blocks(shape, size):
        yield Tile(read=Roi.at(write.start, size).grow(halo), write=write)

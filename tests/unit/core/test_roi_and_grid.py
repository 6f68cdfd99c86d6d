import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg3d.core.errors import CoverageError
from cellseg3d.core.grid import blocks, tiles
from cellseg3d.core.roi import Roi

shapes = st.tuples(*[st.integers(1, 17)] * 3)
sides = st.tuples(*[st.integers(1, 9)] * 3)


@given(shapes, sides, st.integers(0, 5))
def test_tiles_write_every_voxel_exactly_once(shape, core, halo):
    count = np.zeros(shape, int)

    for tile in tiles(shape, core, halo):
        count[tile.write.slices] += 1
        assert tile.read.contains(tile.write.grow(halo).intersect(tile.read))
        assert tile.read.shape == tuple(side + 2 * halo for side in core)
        assert all(
            (begin + halo) % side == 0
            for begin, side in zip(tile.read.start, core, strict=True)
        )

    np.testing.assert_array_equal(count, 1)


@given(shapes, sides)
def test_blocks_rebuild_a_volume(shape, block):
    volume = np.arange(np.prod(shape)).reshape(shape)
    rebuilt = np.full(shape, -1)

    for roi in blocks(shape, block):
        rebuilt[roi.slices] = volume[roi.slices]

    np.testing.assert_array_equal(rebuilt, volume)


def test_a_block_without_extent_is_refused():
    with pytest.raises(CoverageError, match="cover nothing"):
        list(blocks((4, 4, 4), (2, 0, 2)))


def test_boxes_meet_grow_and_move():
    box = Roi.at((2, 3, 4), (5, 5, 5))

    assert box.stop == (7, 8, 9)
    assert box.grow(2).start == (0, 1, 2)
    assert box.grow(4).clip((8, 8, 8)) == Roi((0, 0, 0), (8, 8, 8))
    assert box.intersect(Roi((7, 0, 0), (9, 9, 9))).size == 0
    assert box.within(Roi((1, 1, 1), (9, 9, 9))).start == (1, 2, 3)
    assert box.size == 125
    assert str(box) == "z 2:7, y 3:8, x 4:9"
    assert box.contains(Roi.at((3, 3, 4), (1, 1, 1)))
    assert not box.contains(Roi.at((1, 3, 4), (1, 1, 1)))

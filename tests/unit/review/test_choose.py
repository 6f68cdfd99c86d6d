"""Which pieces are picked: the least sure ones, apart from each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi
from cellseg3d.review.choose import TileMeans, choose


def means_of(uncertainty, axis="z", size=512, block=(3, 5, 4)):
    """Tile means of an array that comes in blocks, as it does from a prediction."""
    means = TileMeans(uncertainty.shape, axis, size, uncertainty.shape)
    for roi in blocks(uncertainty.shape, block):
        means.add(roi, uncertainty[roi.slices])
    return means


@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(*[st.integers(2, 23)] * 3),
    axis=st.sampled_from("zyx"),
    size=st.integers(4, 30),
)
def test_a_tile_has_the_mean_of_its_voxels_however_they_come(shape, axis, size):
    values = np.random.default_rng(0).random(shape).astype(np.float32)

    found = means_of(values, axis, size)

    covered = np.zeros(shape, int)
    means = found.means()
    for index in np.ndindex(*means.shape):
        roi = found.roi(index)
        covered[roi.slices] += 1
        assert max(roi.shape) <= size
        assert roi.shape["zyx".index(axis)] == 1
        np.testing.assert_allclose(means[index], values[roi.slices].mean(), rtol=1e-5)
    assert (covered == 1).all()


def test_a_coarser_grid_gives_the_means_of_the_slices_it_covers():
    means = TileMeans((8, 4, 4), "z", 512, (4, 4, 4))
    coarse = np.zeros((4, 4, 4), np.float32)
    coarse[2] = 0.5

    means.add(Roi.whole(coarse.shape), coarse)

    # A coarse slice lies on the middle of two fine ones and counts for the second.
    assert means.means().ravel().tolist() == [0, 0, 0, 0, 0, 0.5, 0, 0]


def test_the_least_sure_slice_comes_first_and_its_neighbours_not_next():
    unsure = np.full((40, 8, 8), 0.1, np.float32)
    unsure[9:12] = 0.9  # three slices that look alike
    unsure[10] = 0.95
    unsure[30] = 0.5

    taken = choose([means_of(unsure)], 2)

    assert [roi.start[0] for _, roi, _ in taken] == [10, 30]
    assert [value for _, _, value in taken] == pytest.approx([0.95, 0.5])


def test_one_bad_volume_gives_at_most_twice_its_share():
    bad = np.full((40, 8, 8), 0.9, np.float32)
    good = np.full((40, 8, 8), 0.05, np.float32)

    taken = choose([means_of(bad), means_of(good), means_of(good)], 6)

    assert [number for number, _, _ in taken].count(0) == 4
    assert len({(number, roi) for number, roi, _ in taken}) == 6


def test_volumes_without_more_slices_leave_their_share_to_the_others():
    short = means_of(np.full((1, 8, 8), 0.5, np.float32))
    long = means_of(np.full((40, 8, 8), 0.1, np.float32))

    taken = choose([short, short, short, short, long], 12)

    assert [number for number, _, _ in taken].count(4) == 8
    assert len({(number, roi) for number, roi, _ in taken}) == 12


def test_all_pieces_are_found_where_the_network_is_sure_everywhere():
    sure = np.zeros((3, 8, 8), np.float32)

    taken = choose([means_of(sure)], 5)

    assert sorted(roi.start[0] for _, roi, _ in taken) == [0, 1, 2]


def test_a_large_slice_is_cut_into_tiles_and_the_bad_one_is_picked():
    unsure = np.full((2, 20, 30), 0.1, np.float32)
    unsure[1, 10:, 20:] = 0.8

    [(_, roi, value)] = choose([means_of(unsure, size=10)], 1)

    assert roi == Roi((1, 10, 20), (2, 20, 30))
    assert value == pytest.approx(0.8)


def test_what_was_reviewed_before_is_not_picked_again():
    unsure = np.full((40, 8, 8), 0.1, np.float32)
    unsure[10] = 0.95
    unsure[30] = 0.5
    means = means_of(unsure)

    [first] = choose([means], 1)
    [second] = choose([means], 1, [[first[1]]])

    assert (first[1].start[0], second[1].start[0]) == (10, 30)

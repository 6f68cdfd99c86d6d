"""Changed volumes differ by the amount stated, the same way each time."""

import numpy as np
import pytest

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.weights.shifts import COARSER, LOST_EVERY, Labelled, middle, shifted

SHAPE = (10, 30, 24)


@pytest.fixture
def given():
    """Grey values of 50 to 200 and three classes, in voxels of 50, 10 and 10 nm."""
    random = np.random.default_rng(0)
    image = random.integers(50, 201, SHAPE).astype(np.uint8)
    label = np.repeat(np.arange(3, dtype=np.uint8), 10)[None, :, None]
    spacing = Spacing(0.05, 0.01, 0.01)
    label = np.ascontiguousarray(np.broadcast_to(label, SHAPE))
    return Labelled(Volume(image, spacing), Volume(label, spacing))


def test_a_change_is_the_same_each_time_and_leaves_shape_type_and_labels(given):
    once, again = (shifted(given, inverts=True) for _ in range(2))

    assert len(once) == 10
    for name, copy in once.items():
        values = copy.image.read()
        np.testing.assert_array_equal(values, again[name].image.read())
        assert values.dtype == np.uint8
        if name != "larger voxels":
            assert not np.array_equal(values, given.image.read())
            np.testing.assert_array_equal(copy.label.read(), given.label.read())


def test_noise_is_a_fifth_of_the_contrast(given):
    flat = np.full(SHAPE, 100, np.float32)
    flat[:, :15] = 200
    given = Labelled(Volume(flat), given.label)

    added = shifted(given, inverts=False)["noise"].image.read() - flat

    assert added.std() == pytest.approx(0.2 * 100, rel=0.03)
    assert abs(added.mean()) < 1


def test_an_inverted_copy_is_made_only_where_asked_for(given):
    values = given.image.read()

    inverted = shifted(given, inverts=True)["inverted"].image.read()

    np.testing.assert_array_equal(inverted, int(values.max()) + values.min() - values)
    assert "inverted" not in shifted(given, inverts=False)


def test_one_slice_in_eight_is_lost_and_a_single_slice_never(given):
    values = given.image.read()

    lost = shifted(given, inverts=False)["missing slices"].image.read()

    changed = [z for z in range(len(lost)) if not np.array_equal(lost[z], values[z])]
    assert changed == [LOST_EVERY // 2]
    assert np.unique(lost[changed]).tolist() == [round(float(values.mean()))]
    assert "missing slices" not in shifted(middle_slice(given), inverts=False)


def middle_slice(given):
    return Labelled(*(Volume(each.read()[:1]) for each in (given.image, given.label)))


def test_larger_voxels_say_so_and_labels_follow(given):
    coarse = shifted(given, inverts=False)["larger voxels"]

    assert coarse.image.shape == coarse.label.shape == (10, 20, 16)
    edges = Spacing(0.05, 0.01 * COARSER, 0.01 * COARSER)
    assert coarse.image.spacing.is_close(edges)
    counts = np.bincount(coarse.label.read().ravel())
    # Each class holds a third of 20 rows, give or take one row.
    np.testing.assert_allclose(counts / counts.sum(), [1 / 3] * 3, atol=1 / 20)


def test_the_middle_holds_about_as_many_voxels_as_asked_for(given):
    part = middle(given, 10 * 12 * 12)

    assert part.image.shape == (10, 12, 12)
    np.testing.assert_array_equal(part.image.read(), given.image.read()[:, 9:21, 6:18])
    np.testing.assert_array_equal(part.label.read(), given.label.read()[:, 9:21, 6:18])
    assert middle(given, 10**6).image.shape == SHAPE

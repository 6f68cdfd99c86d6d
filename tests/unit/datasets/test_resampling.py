"""One resampler for training and prediction: the values, region by region."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cellseg3d.core.errors import SpacingError
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.resampling import Resampled, nearest_on, onto_spacing


def by_torch(image, shape):
    """Resample axis by axis with torch's antialiased bilinear interpolation."""
    found = torch.from_numpy(image.astype(np.float32))
    for side in shape:  # the first axis becomes the last
        rows = found.flatten(1)
        wanted = (side, rows.shape[1])
        small = torch.nn.functional.interpolate(
            rows[None, None], wanted, mode="bilinear", antialias=True
        )
        found = small.reshape(side, *found.shape[1:]).movedim(0, -1)
    return found.numpy()


@pytest.mark.parametrize(
    "shape", [(6, 7, 8), (5, 5, 5), (12, 14, 16), (3, 20, 9), (1, 1, 1), (11, 13, 15)]
)
def test_values_are_those_of_torch(shape):
    image = np.random.default_rng(0).normal(0, 1, (12, 14, 16)).astype(np.float32)

    found = Resampled(image, shape)[Roi.whole(shape).slices]

    # torch computes the weights in float32 as well.
    np.testing.assert_allclose(found, by_torch(image, shape), atol=1e-5)


@given(
    shape=st.tuples(*[st.integers(1, 15)] * 3),
    start=st.tuples(*[st.integers(0, 7)] * 3),
    nearest=st.booleans(),
)
def test_a_region_is_the_same_as_in_the_whole(shape, start, nearest):
    image = np.random.default_rng(0).normal(0, 1, (9, 5, 7)).astype(np.float32)
    part = tuple(slice(a, a + 4) for a in start)
    lazy = Resampled(image, shape, nearest=nearest)

    found = lazy[part]

    np.testing.assert_array_equal(found, lazy[Roi.whole(shape).slices][part])


def test_whole_numbers_stay_whole_and_keep_their_type():
    image = np.zeros((1, 1, 4), np.uint8)
    image[0, 0] = [0, 10, 255, 255]

    found = Resampled(image, (1, 1, 2))[:, :, :]

    # Weights 3 3 1 of 7 and 1 3 3 of 7: a tent cut off at the border.
    assert found.dtype == np.uint8
    assert found[0, 0].tolist() == [round((30 + 255) / 7), round((10 + 6 * 255) / 7)]


def test_labels_come_back_from_a_finer_grid():
    labels = np.random.default_rng(0).integers(0, 200, (3, 4, 5)).astype(np.uint8)

    fine = nearest_on(labels, (9, 12, 15))
    back = nearest_on(fine, (3, 4, 5))

    np.testing.assert_array_equal(
        fine[:, :, :], labels.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    )
    np.testing.assert_array_equal(back[:, :, :], labels)


def test_a_volume_gets_the_voxels_that_its_box_allows():
    volume = Volume(np.zeros((10, 10, 10), np.float32), Spacing(0.1, 0.1, 0.1))

    found = onto_spacing(volume, Spacing(0.3, 0.2, 0.05))

    assert found.shape == (3, 5, 20)
    assert found.spacing.zyx == pytest.approx((1 / 3, 0.2, 0.05))
    assert onto_spacing(volume, Spacing(0.1, 0.101, 0.1)) is volume


def test_a_2d_image_stays_one_slice():
    image = Volume(
        np.arange(48, dtype=np.uint8).reshape(1, 6, 8), Spacing(0.18, 0.18, 0.18)
    )

    finer = onto_spacing(image, Spacing(0.06, 0.06, 0.06))

    assert finer.shape == (1, 18, 24)
    np.testing.assert_allclose(finer.spacing.zyx, (0.18, 0.06, 0.06))


def test_an_unknown_spacing_is_refused():
    with pytest.raises(SpacingError, match="`spacing_um`"):
        onto_spacing(Volume(np.zeros((2, 2, 2))), Spacing(1, 1, 1))

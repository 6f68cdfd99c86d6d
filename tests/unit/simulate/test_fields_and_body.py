import numpy as np
import pytest

from cellseg3d.simulate.body import Ellipsoid, depth_um, draw_cell, make_room
from cellseg3d.simulate.fields import coordinates_um, smooth_field


def test_noise_has_mean_zero_and_unit_variance():
    fields = [
        smooth_field((40, 48, 56), 4.0, np.random.default_rng(seed))
        for seed in range(4)
    ]

    # About 1700 independent bumps a field: standard error near 0.02.
    assert np.mean([field.mean() for field in fields]) == pytest.approx(0, abs=0.05)
    assert np.mean([field.std() for field in fields]) == pytest.approx(1, abs=0.05)


def test_noise_is_smooth_at_the_length_asked_for():
    field = smooth_field((64, 64, 64), 8.0, np.random.default_rng(0))

    step = np.diff(field, axis=0).std()

    # Neighbours differ by little, places a few lengths apart by as much as any two.
    assert step < 0.15
    assert (field[32:] - field[:-32]).std() == pytest.approx(1.41, abs=0.2)


def test_an_unbent_ball_has_the_volume_of_a_ball():
    ball = Ellipsoid(np.full(3, 1.2), np.eye(3), np.array([0.1, -0.2, 0.05]))

    depth = depth_um(ball, (70, 72, 68), 0.05, 0.0, np.random.default_rng(0))

    volume = np.count_nonzero(depth > 0) * 0.05**3
    assert volume == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.01)
    assert depth.max() == pytest.approx(1.2, abs=0.05)


def test_an_ellipsoid_turns_with_its_rotation():
    turn = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    radii = np.array([1.4, 0.7, 0.7])

    upright = depth_um(
        Ellipsoid(radii, np.eye(3), np.zeros(3)),
        (64, 64, 64),
        0.05,
        0.0,
        np.random.default_rng(0),
    )
    turned = depth_um(
        Ellipsoid(radii, turn, np.zeros(3)),
        (64, 64, 64),
        0.05,
        0.0,
        np.random.default_rng(0),
    )

    # Voxels exactly on the surface may fall on either side.
    np.testing.assert_allclose(turned, upright.transpose(1, 0, 2), atol=1e-5)
    assert (upright > 0).any(axis=(1, 2)).sum() == pytest.approx(56, abs=1)


@pytest.mark.parametrize("mount", ["capillary", "grid"])
def test_cells_fit_their_room(mount):
    for seed in range(20):
        room = make_room((96, 80, 88), 0.05, mount)

        cell = draw_cell(room, np.random.default_rng(seed))

        assert cell.radii_um.max() < min(room.half_um[1:])
        assert cell.radii_um.min() > 0.4


def test_coordinates_are_centred():
    z, y, x = coordinates_um((3, 4, 5), 0.5)

    assert z.ravel().tolist() == [-0.5, 0.0, 0.5]
    assert y.ravel().tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert x.shape == (1, 1, 5)

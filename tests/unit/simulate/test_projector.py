import numpy as np
import pytest

from cellseg3d.simulate.projector import backproject, project

ANGLES = np.array([-90.0, -61.3, -45.0, 0.0, 12.5, 45.0, 88.0])


def cylinder(size: int, radius: float, fine: int = 8) -> np.ndarray:
    """A cylinder along y; each voxel holds the share of it that is inside."""
    axis = (np.arange(size * fine) + 0.5) / fine - size / 2
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 < radius**2
    share = inside.reshape(size, fine, size, fine).mean((1, 3)).astype(np.float32)
    return np.ascontiguousarray(np.repeat(share[:, None, :], 3, axis=1))


def test_a_cylinder_casts_the_chords_of_a_circle_at_every_tilt():
    size, radius = 48, 17.3
    edges = np.arange(size + 1) - size / 2
    s = np.clip(edges / radius, -1, 1)
    # The integral of 2 sqrt(r^2 - s^2), so that a pixel is the mean of its chords.
    area = radius**2 * (s * np.sqrt(1 - s**2) + np.arcsin(s))

    rays = project(cylinder(size, radius), ANGLES)

    # Square voxels blur the circle by about half a voxel; where a ray only touches
    # it, the chord goes as a root and changes by up to 1.
    chords = np.broadcast_to(np.diff(area)[None, :, None], rays.shape)
    np.testing.assert_allclose(rays, chords, atol=1.0)
    deep = chords > 20
    np.testing.assert_allclose(rays[deep], chords[deep], atol=0.3)
    assert rays.max() == pytest.approx(2 * radius, rel=0.01)


def test_projection_of_one_voxel_agrees_with_a_brute_force_count():
    volume = np.zeros((9, 1, 11), np.float32)
    volume[6, 0, 3] = 2.0
    fine = 200
    inner = (np.arange(fine) + 0.5) / fine - 0.5
    z, x = np.meshgrid(6 - 4 + inner, 3 - 5 + inner, indexing="ij")

    rays = project(volume, ANGLES)

    for angle, ray in zip(np.deg2rad(ANGLES), rays, strict=True):
        place = x * np.cos(angle) + z * np.sin(angle) + 5.5
        counts, _ = np.histogram(place, bins=np.arange(12))
        # A fifth of a percent: 200 x 200 points stand for the voxel's area.
        np.testing.assert_allclose(ray[:, 0], 2.0 * counts / fine**2, atol=0.01)


def test_every_tilt_sees_all_of_what_lies_inside_the_field():
    rng = np.random.default_rng(0)
    volume = np.zeros((20, 4, 32), np.float32)
    volume[6:14, :, 10:22] = rng.random((8, 4, 12), dtype=np.float32)

    rays = project(volume, ANGLES)

    expected = np.broadcast_to(volume.sum((0, 2)), (len(ANGLES), 4))
    np.testing.assert_allclose(rays.sum(1), expected, rtol=1e-5)


def test_backprojection_of_ones_counts_the_tilts_inside_the_circle():
    rays = np.ones((len(ANGLES), 33, 2), np.float32)
    z, x = np.meshgrid(np.arange(33) - 16, np.arange(33) - 16, indexing="ij")
    inside = z**2 + x**2 < 15**2

    volume = backproject(rays, ANGLES, 33)

    np.testing.assert_allclose(volume[:, 0, :][inside], len(ANGLES), rtol=1e-5)


def test_backprojection_puts_a_pixel_back_on_its_line():
    rays = np.zeros((1, 17, 1), np.float32)
    rays[0, 5, 0] = 3.0

    upright = backproject(rays, np.array([0.0]), 9)
    lying = backproject(rays, np.array([90.0]), 17)

    np.testing.assert_allclose(upright[:, 0, 5], 3.0, rtol=1e-6)
    assert upright.sum() == pytest.approx(27.0)
    np.testing.assert_allclose(lying[5, 0, :], 3.0, rtol=1e-5)


def test_the_number_of_threads_changes_nothing():
    rng = np.random.default_rng(1)
    volume = rng.random((16, 130, 16), dtype=np.float32)

    one, three = (project(volume, ANGLES, workers) for workers in (1, 3))
    back_one, back_three = (backproject(one, ANGLES, 16, workers) for workers in (1, 3))

    np.testing.assert_array_equal(one, three)
    np.testing.assert_array_equal(back_one, back_three)
    assert one.std() > 0

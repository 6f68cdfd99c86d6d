import numpy as np
import pytest

from cellseg3d.core.errors import ConfigError
from cellseg3d.simulate.acquisition import Scan, absorbance, record, scan_for
from cellseg3d.simulate.reconstruction import reconstruct

PERFECT = {
    "photons": 0,
    "blur_pixels": 0,
    "drift_pixels": 0,
    "flicker": 0,
    "gain": 0,
}


def ball(size=48, radius=15.0, lac=0.4):
    axis = np.arange(size) - (size - 1) / 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    distance = np.sqrt(z**2 + y**2 + x**2)
    return (lac * np.clip(radius - distance + 0.5, 0, 1)).astype(np.float32)


def tomogram_of(volume, scan, spacing=0.05):
    rays = absorbance(volume, np.zeros(len(volume), np.float32), spacing, scan)
    rays = record(rays, scan, np.random.SeedSequence(0))
    return reconstruct(rays, len(volume), spacing, scan)


def test_the_thickest_ray_obeys_beer_and_lambert():
    scan = Scan(tilt_step_deg=30, **PERFECT)

    rays = absorbance(ball(), np.zeros(48, np.float32), 0.05, scan)

    # 30 voxels of 0.05 um at 0.4 per um; a pixel averages over its width.
    assert rays.shape == (6, 48, 48)
    assert rays.max() == pytest.approx(0.6, rel=0.01)


def test_a_perfect_microscope_records_the_true_absorbance():
    scan = Scan(tilt_step_deg=30, **PERFECT)
    rays = absorbance(ball(), np.zeros(48, np.float32), 0.05, scan)

    measured = record(rays, scan, np.random.SeedSequence(0))

    np.testing.assert_allclose(measured, rays, atol=1e-6)
    assert measured.max() > 0.5


def test_photon_noise_follows_poisson():
    rays = np.full((40, 30, 30), 0.7, np.float32)
    scan = Scan(tilt_step_deg=4.5, **{**PERFECT, "photons": 5000})

    measured = record(rays, scan, np.random.SeedSequence(3))

    # -ln(counts) has the variance 1 / counts; 36 000 pixels give it within 1 %.
    assert measured.mean() == pytest.approx(0.7, abs=0.001)
    assert measured.std() == pytest.approx((5000 * np.exp(-0.7)) ** -0.5, rel=0.02)


def test_a_ray_that_stops_every_photon_stays_finite():
    scan = Scan(tilt_step_deg=90, **{**PERFECT, "photons": 100})

    measured = record(
        np.full((2, 8, 8), 50, np.float32), scan, np.random.SeedSequence()
    )

    np.testing.assert_allclose(measured, np.log(100), rtol=1e-6)


def test_flicker_and_gain_have_the_spread_asked_for():
    rays = np.zeros((60, 32, 32), np.float32)
    flicker = Scan(tilt_step_deg=3, **{**PERFECT, "flicker": 0.02})
    gain = Scan(tilt_step_deg=3, **{**PERFECT, "gain": 0.02})

    levels = record(rays, flicker, np.random.SeedSequence(0)).mean((1, 2))
    pixels = record(rays, gain, np.random.SeedSequence(0))

    assert levels.std() == pytest.approx(0.02, rel=0.35)
    assert pixels[0].std() == pytest.approx(0.02, rel=0.1)
    np.testing.assert_array_equal(pixels[0], pixels[-1])  # the same pixels: rings


def test_endless_ice_gets_longer_as_the_grid_tilts():
    layers = np.full(20, 0.11, np.float32)
    scan = Scan((-60, 60), 60, **PERFECT)
    volume = np.broadcast_to(layers[:, None, None], (20, 4, 24)).copy()

    rays = absorbance(volume, layers, 0.05, scan)

    np.testing.assert_allclose(rays[1], 0.11, rtol=1e-5)
    np.testing.assert_allclose(rays[[0, 2]], 0.22, rtol=1e-5)


def test_full_rotation_recovers_the_coefficient():
    scan = Scan(tilt_step_deg=2, **PERFECT)

    tomogram = tomogram_of(ball(), scan)

    inside = ball(radius=12) > 0.39
    outside = (ball(radius=19) == 0) & (ball(radius=23) > 0)
    # The Hann window and 90 tilts leave ripples, no offset.
    assert tomogram[inside].mean() == pytest.approx(0.4, rel=0.01)
    assert tomogram[inside].std() < 0.01
    assert tomogram[outside].mean() == pytest.approx(0, abs=0.004)


def test_fewer_photons_are_noisier():
    spreads = []
    for photons in (500, 5000):
        scan = Scan(tilt_step_deg=3, **{**PERFECT, "photons": photons})
        spreads.append(tomogram_of(ball(), scan)[ball(radius=12) > 0.39].std())

    # Noise goes with the root of the count.
    assert spreads[0] / spreads[1] == pytest.approx(10**0.5, rel=0.1)


def test_a_missing_wedge_is_missing_in_fourier_space():
    noise = np.random.default_rng(0).standard_normal((48, 48, 48))
    volume = (noise * (ball(radius=20) > 0)).astype(np.float32)
    frequency = np.fft.fftfreq(48)
    kz, _, kx = np.meshgrid(*[frequency] * 3, indexing="ij")
    radius = np.hypot(kz, kx)
    angle = np.degrees(np.arctan2(np.abs(kz), np.abs(kx)))
    seen = (radius > 0.08) & (radius < 0.3) & (angle < 50)
    unseen = (radius > 0.08) & (radius < 0.3) & (angle > 70)

    def ratio(scan):
        power = np.abs(np.fft.fftn(tomogram_of(volume, scan))) ** 2
        return power[unseen].mean() / power[seen].mean()

    full = ratio(Scan(tilt_step_deg=2, **PERFECT))
    wedge = ratio(Scan((-60, 60), 2, **PERFECT))

    # Some power leaks in: the volume is finite.
    assert full == pytest.approx(1, abs=0.25)
    assert wedge < 0.1


def test_tilts_of_half_a_turn_do_not_repeat_the_first():
    assert len(Scan(tilt_step_deg=2).angles_deg) == 90
    assert Scan((-60, 60), 1.5).angles_deg[[0, -1]].tolist() == [-60, 60]
    assert scan_for("capillary").is_full
    assert not scan_for("grid").is_full


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tilt_range_deg": (60, -60)}, "tilt range is 60 to -60"),
        ({"tilt_range_deg": (-180, 180)}, "at most 180 apart"),
        ({"tilt_step_deg": 0}, "tilt step is 0"),
        ({"photons": -1}, "photons is -1"),
        ({"blur_pixels": float("nan")}, "blur_pixels is nan"),
    ],
)
def test_scans_that_make_no_sense_are_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        Scan(**values)

"""Simulate how a soft X-ray microscope records a tilt series."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift

from cellseg3d.core.errors import ConfigError
from cellseg3d.simulate.fields import FloatArray, smooth_field
from cellseg3d.simulate.projector import project


@dataclass(frozen=True, slots=True)
class Scan:
    """The settings of a tilt series.

    Parameters
    ----------
    tilt_range_deg : tuple of float
        First and last tilt. With a range of 180 degrees no angle is missing; the last
        tilt would repeat the first one and is left out.
    tilt_step_deg : float
        Angle between two tilts, greater than 0.
    photons : float
        Mean photon count of a detector pixel without a specimen, per tilt; 0 switches
        photon noise off.
    blur_pixels : float
        Standard deviation of the point spread on the detector, in pixels.
    drift_pixels : float
        Standard deviation of the misalignment of each tilt, along both axes, in pixels.
    flicker : float
        Relative standard deviation of the beam's brightness between tilts; the
        unevenness over the field is half as large.
    gain : float
        Relative standard deviation of the pixels' sensitivity after flat-field
        correction; it causes rings.

    Raises
    ------
    ConfigError
        If a number is outside its valid range.
    """

    tilt_range_deg: tuple[float, float] = (-90.0, 90.0)
    tilt_step_deg: float = 2.0
    photons: float = 3000.0
    blur_pixels: float = 0.6
    drift_pixels: float = 0.2
    flicker: float = 0.01
    gain: float = 0.003

    def __post_init__(self) -> None:
        low, high = self.tilt_range_deg
        if not (low < high <= low + 180):
            message = (
                f"tilt range is {low:g} to {high:g} degrees; expected two rising "
                "numbers, at most 180 apart, such as -60 60"
            )
            raise ConfigError(message)
        if not 0 < self.tilt_step_deg <= high - low:
            message = (
                f"tilt step is {self.tilt_step_deg:g} degrees; expected more than 0 "
                f"and at most {high - low:g}"
            )
            raise ConfigError(message)
        for name in ("photons", "blur_pixels", "drift_pixels", "flicker", "gain"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                message = f"{name} is {value:g}; expected a number >= 0"
                raise ConfigError(message)

    @property
    def is_full(self) -> bool:
        """Whether the tilts cover half a turn, so that no wedge is missing."""
        low, high = self.tilt_range_deg
        return high - low >= 180 - 1e-6

    @property
    def angles_deg(self) -> NDArray[np.float64]:
        """The tilts, in degrees."""
        low, high = self.tilt_range_deg
        count = math.floor((high - low) / self.tilt_step_deg + 1e-6)
        angles: NDArray[np.float64] = low + self.tilt_step_deg * np.arange(count + 1.0)
        return angles[angles < high - 1e-6] if self.is_full else angles


def scan_for(mount: str) -> Scan:
    """Return the usual scan of a mount: half a turn, or -60 to 60 degrees."""
    if mount == "grid":
        return Scan(tilt_range_deg=(-60.0, 60.0), tilt_step_deg=1.0)
    return Scan()


def absorbance(
    lac_zyx: FloatArray,
    layers_per_um: FloatArray,
    spacing_um: float,
    scan: Scan,
    workers: int | None = None,
) -> FloatArray:
    """Return -ln(transmission) of every ray (Beer and Lambert).

    Parameters
    ----------
    lac_zyx : ndarray of float32, shape (Z, Y, X)
        Linear absorption coefficients, 1/um.
    layers_per_um : ndarray of float32, shape (Z,)
        Coefficients that continue beyond the volume across z, 1/um. The path through
        them grows as 1 / cos(tilt) and is added exactly.
    spacing_um : float
        Edge length of a voxel.
    scan : Scan
    workers : int, optional
        Number of threads; one per core when None.

    Returns
    -------
    ndarray of float32, shape (tilts, X, Y)
    """
    endless = float(layers_per_um.sum()) * spacing_um
    specimen = lac_zyx - layers_per_um[:, None, None] if endless else lac_zyx
    rays = project(specimen, scan.angles_deg, workers)
    rays *= np.float32(spacing_um)
    if endless:
        paths = endless / np.cos(np.deg2rad(scan.angles_deg))
        rays += paths.astype(np.float32)[:, None, None]
    return rays


def record(rays: FloatArray, scan: Scan, seed: np.random.SeedSequence) -> FloatArray:
    """Return the absorbance that a microscope measures, with noise and artefacts.

    Each tilt is blurred, shifted, lit unevenly, counted in photons and divided by the
    mean empty beam.

    Parameters
    ----------
    rays : ndarray of float32, shape (tilts, X, Y)
        True absorbance.
    scan : Scan
    seed : numpy SeedSequence
        Source of the random numbers; each tilt has its own stream.

    Returns
    -------
    ndarray of float32, shape (tilts, X, Y)
    """
    fixed, *streams = [
        np.random.default_rng(child) for child in seed.spawn(len(rays) + 1)
    ]
    sensitivity = 1 + scan.gain * fixed.standard_normal(rays.shape[1:])
    measured = np.empty_like(rays)
    for tilt, (ray, rng) in enumerate(zip(rays, streams, strict=True)):
        beam = np.exp(-ray)
        if scan.blur_pixels:
            beam = gaussian_filter(beam, scan.blur_pixels, mode="nearest")
        if scan.drift_pixels:
            by = scan.drift_pixels * rng.standard_normal(2)
            beam = shift(beam, by, order=1, mode="nearest")
        beam = beam * (_illumination(ray.shape, scan.flicker, rng) * sensitivity)
        if scan.photons:
            # A pixel without photons counts one, because its logarithm must be finite.
            counts = rng.poisson(np.maximum(beam, 0) * scan.photons)
            beam = np.maximum(counts, 1) / scan.photons
        measured[tilt] = -np.log(beam)
    return measured


def _illumination(
    shape: tuple[int, ...], flicker: float, rng: np.random.Generator
) -> FloatArray:
    """Return the beam over the field of one tilt, about 1."""
    level = 1 + flicker * rng.standard_normal()
    uneven = smooth_field((1, shape[0], shape[1]), 0.5 * max(shape), rng)[0]
    beam: FloatArray = (level + flicker * 0.5 * uneven).astype(np.float32)
    return beam

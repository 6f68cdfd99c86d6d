"""Reconstruct absorption coefficients from a tilt series."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from cellseg3d.simulate.acquisition import Scan
from cellseg3d.simulate.fields import FloatArray
from cellseg3d.simulate.projector import backproject


def reconstruct(
    rays: FloatArray,
    depth: int,
    spacing_um: float,
    scan: Scan,
    workers: int | None = None,
) -> FloatArray:
    """Return coefficients from a tilt series by filtered back-projection.

    The ramp filter is tapered by a Hann window [1]_. Rays beyond the detector are set
    to those at its edge, so that ice that fills the field causes no bright rim.

    Parameters
    ----------
    rays : ndarray of float32, shape (tilts, X, Y)
        Absorbance of each ray.
    depth : int
        Number of voxels along z.
    spacing_um : float
        Edge length of a voxel.
    scan : Scan
        The settings of the tilt series.
    workers : int, optional
        Number of threads; one per core when None.

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)
        Coefficients in 1/um. With missing tilts the contrast across z is lower, and
        layers across the whole field vanish, since no tilt saw them from the side.

    References
    ----------
    .. [1] Kak, Slaney 2001, Principles of Computerized Tomographic Imaging, ch. 3,
       doi:10.1137/1.9780898719277
    """
    response = _ramp(2 ** math.ceil(math.log2(2 * rays.shape[1])))
    filtered = np.stack([_filter(ray, response) for ray in rays])
    volume = backproject(filtered, scan.angles_deg, depth, workers)
    volume *= np.float32(np.deg2rad(scan.tilt_step_deg) / spacing_um)
    return volume


def _ramp(length: int) -> FloatArray:
    """Return the response of the band-limited ramp under a Hann window (rfft order).

    It is computed from the sampled kernel instead of from |f|, whose value of 0 at
    frequency 0 would remove the mean of the reconstruction.
    """
    distance = np.minimum(np.arange(length), length - np.arange(length))
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = distance % 2 == 1
    kernel[odd] = -1 / (np.pi * distance[odd]) ** 2
    hann = 0.5 + 0.5 * np.cos(2 * np.pi * np.fft.rfftfreq(length))
    response: NDArray[np.float64] = np.fft.rfft(kernel).real * hann
    return response.astype(np.float32)


def _filter(ray: FloatArray, response: FloatArray) -> FloatArray:
    """Return one tilt (X, Y) filtered along X."""
    width = len(ray)
    length = 2 * (len(response) - 1)
    before = (length - width) // 2
    wide = np.pad(ray, ((before, length - width - before), (0, 0)), mode="edge")
    spectrum = fft.rfft(wide, axis=0) * response[:, None]
    filtered: FloatArray = fft.irfft(spectrum, length, axis=0)
    return filtered[before : before + width]

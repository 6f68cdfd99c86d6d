"""Smooth random fields: the noise that bends shapes and mottles their inside."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cellseg3d.core.roi import Zyx

FloatArray = NDArray[np.float32]


def smooth_field(
    shape: Zyx, length_voxels: float, rng: np.random.Generator
) -> FloatArray:
    """Return smooth noise of mean 0 and a variance of about 1.

    White noise on a coarse grid is interpolated by cubic B-splines. The result has two
    continuous derivatives and is the same for any number of threads.

    Parameters
    ----------
    shape : tuple of int
        Shape (Z, Y, X), in voxels.
    length_voxels : float
        Spacing of the coarse grid, in voxels; bumps are about twice as wide.
    rng : numpy Generator
        Random generator; one number is drawn for each node of the coarse grid.

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)
    """
    splines = [
        _spline_matrix(size, length_voxels, float(rng.random())) for size in shape
    ]
    coarse = tuple(int(matrix.shape[1]) for matrix in splines)
    noise = rng.standard_normal(coarse, dtype=np.float32)
    by_z, by_y, by_x = splines
    along_x = (by_x @ noise.reshape(-1, coarse[2]).T).T
    along_y = np.stack(
        [by_y @ part for part in along_x.reshape(coarse[0], coarse[1], -1)]
    )
    field: FloatArray = (by_z @ along_y.reshape(coarse[0], -1)).reshape(shape)
    field *= np.float32(_SPLINE_GAIN)
    return field


def _spline_matrix(size: int, length: float, phase: float) -> sparse.csr_matrix:
    """Return the weights (size, nodes) of the four nodes around each voxel."""
    place = np.arange(size) / length + phase
    node = np.floor(place).astype(np.int32)
    t = place - node
    weights = np.stack(
        [
            (1 - t) ** 3,
            3 * t**3 - 6 * t**2 + 4,
            -3 * t**3 + 3 * t**2 + 3 * t + 1,
            t**3,
        ],
        axis=1,
    )
    columns = node[:, None] + np.arange(4, dtype=np.int32)
    starts = np.arange(0, 4 * size + 1, 4)
    return sparse.csr_matrix(
        ((weights / 6).astype(np.float32).ravel(), columns.ravel(), starts),
        shape=(size, int(node[-1]) + 4),
    )


# The mean over the phase of the sum of squared cubic B-spline weights is 151/315.
_SPLINE_GAIN = math.sqrt(315 / 151) ** 3


def coordinates_um(
    shape: Zyx, spacing_um: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return open grids (z, y, x) of the voxel centres, in um from the middle."""
    axes = [
        ((np.arange(size) - (size - 1) / 2) * spacing_um).astype(np.float32)
        for size in shape
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return z, y, x

"""Volumes whose voxels say where they lie, and the scaling that keeps them readable."""

import numpy as np

from cellseg3d.datasets.intensity import IntensityScale

# (raw - 0) / 3e5: keeps coded values apart and within the clip.
CODE = IntensityScale("range", -3e5, 3e5)


def coded(shape):
    """Return float32 voxels that hold 10000 z + 100 y + x."""
    z, y, x = np.ogrid[tuple(slice(0, size) for size in shape)]
    return (10000 * z + 100 * y + x).astype(np.float32)


def decoded(image):
    """Return the codes that a scaled image holds, as integers."""
    return np.rint(np.asarray(image, np.float64) * 3e5).astype(int)

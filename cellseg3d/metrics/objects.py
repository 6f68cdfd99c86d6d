"""Objects of a mask: its connected components."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def label_components(mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Return ids of the pieces of a mask that touch by face, edge or corner.

    Parameters
    ----------
    mask : ndarray of bool, shape (Z, Y, X)

    Returns
    -------
    ndarray of unsigned integers, shape (Z, Y, X)
        0 outside, 1, 2, ... in order of first voxel.
    """
    try:
        import cc3d  # noqa: PLC0415 - an extra, several times faster than scipy
    except ImportError:
        from scipy import ndimage  # noqa: PLC0415

        labels, _ = ndimage.label(mask, np.ones((3, 3, 3)), output=np.uint32)
        return np.asarray(labels)
    return np.asarray(cc3d.connected_components(mask, connectivity=26))

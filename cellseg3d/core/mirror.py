"""Mirror voxels beyond the ends of an axis back into it."""

import numpy as np
from numpy.typing import NDArray


def mirrored(places: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Return the voxels on an axis that places on or beyond it are mirrored to.

    The first and the last voxel are the mirrors and are not repeated, as in
    ``numpy.pad(..., mode="reflect")``. Places may lie any distance away.

    Parameters
    ----------
    places : ndarray of int
        Places along the axis, in voxels from its first one; may be negative.
    length : int
        The number of voxels of the axis, at least 1.

    Returns
    -------
    ndarray of int, shape of `places`
        From 0 to ``length - 1``.

    Examples
    --------
    >>> import numpy as np
    >>> mirrored(np.arange(-2, 6), 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    period = max(1, 2 * (length - 1))
    inside = places % period
    return np.minimum(inside, period - inside)

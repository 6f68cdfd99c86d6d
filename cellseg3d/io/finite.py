"""Find voxels that are NaN or infinite, and name the first one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import NonFiniteError


def non_finite(array: NDArray[Any]) -> tuple[int, tuple[int, ...] | None]:
    """Return how many voxels are NaN or infinite, and the index of the first.

    Parameters
    ----------
    array : ndarray of any dtype, shape (z, y, x) or (c, z, y, x)
        Integers are always finite. A float64 value beyond the range of float32 counts
        as infinite, since networks compute in float32.

    Returns
    -------
    count : int
    first : tuple of int, or None
        The index of the first such voxel; None if there is none.
    """
    if array.dtype.kind != "f" or not array.size:
        return 0, None
    if array.dtype.itemsize > 4:
        wrong = ~(np.abs(array) <= np.finfo(np.float32).max)
    else:
        wrong = ~np.isfinite(array)
    count = int(np.count_nonzero(wrong))
    if not count:
        return 0, None
    place = np.unravel_index(int(np.argmax(wrong)), array.shape)
    return count, tuple(int(each) for each in place)


def check_finite(array: NDArray[Any], name: str) -> None:
    """Raise an error if an array holds NaN or infinity.

    Raises
    ------
    NonFiniteError
        With the number of such voxels and the place of the first.
    """
    count, first = non_finite(array)
    if first is not None:
        raise NonFiniteError(message_of(name, count, first))


def message_of(name: str, count: int, first: tuple[int, ...]) -> str:
    """Return the message about a file's NaN or infinite voxels."""
    z, y, x = first[-3:]
    found = "1 voxel is" if count == 1 else f"{count} voxels are"
    return (
        f"{name}: {found} NaN, infinite or beyond float32, the first at "
        f"(z={z}, y={y}, x={x}); replace them, for instance with `cellseg3d doctor "
        "--fix OUT`, or crop the volume"
    )

"""Find NaN and infinity, and say where."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import NonFiniteError


def non_finite(array: NDArray[Any]) -> tuple[int, tuple[int, ...] | None]:
    """Return how many voxels are NaN or infinite, and the first one's index.

    Parameters
    ----------
    array : ndarray of any dtype, shape (z, y, x)
        Integers are always finite. A float64 beyond float32 counts as infinite: it is
        infinite to every network.
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
    """Refuse NaN and infinity, with their number and the first one's place.

    Raises
    ------
    NonFiniteError
        If there is one.
    """
    count, first = non_finite(array)
    if first is not None:
        raise NonFiniteError(message_of(name, count, first))


def message_of(name: str, count: int, first: tuple[int, ...]) -> str:
    """Return the line that names a file's NaN or infinite voxels."""
    z, y, x = first
    return (
        f"{name}: {count} voxels are NaN, infinite or beyond float32, the first at "
        f"(z={z}, y={y}, x={x}); "
        "replace them (`cellseg3d doctor --fix OUT` does), or crop"
    )

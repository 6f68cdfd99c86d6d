"""Label ids: exact, and of the smallest unsigned dtype that holds them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import LabelError

LABEL_DTYPES = ("u1", "u2", "u4", "u8")


def as_labels(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return label ids in the smallest unsigned dtype, every value the same.

    Raises
    ------
    LabelError
        If a value is negative or no integer.
    """
    if array.dtype.kind == "f":
        odd = np.nonzero(~(np.isfinite(array) & (np.rint(array) == array)).ravel())[0]
        if odd.size:
            raise LabelError(
                f"{name}: {odd.size} label values are no integers (such as "
                f"{array.ravel()[odd[0]]}); is this an image, or resampled smoothly?"
            )
    if not array.size:
        return array.astype(np.uint8)
    smallest, largest = array.min(), array.max()
    if smallest < 0:
        raise LabelError(f"{name}: label values down to {smallest}; expected 0 or more")
    return array.astype(label_dtype(int(largest)), copy=False)


def label_dtype(largest: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds a label.

    Raises
    ------
    LabelError
        If 64 bits do not hold it.
    """
    for kind in LABEL_DTYPES:
        if largest <= np.iinfo(kind).max:
            return np.dtype(kind)
    raise LabelError(f"label {largest} fits no integer type")

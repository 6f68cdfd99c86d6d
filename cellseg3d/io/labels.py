"""Convert labels to the smallest unsigned dtype that holds them exactly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import LabelError

LABEL_DTYPES = ("u1", "u2", "u4", "u8")


def as_labels(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return labels in the smallest unsigned dtype, with the same values.

    Parameters
    ----------
    array : ndarray of integers, or of floats that are all integers
        Labels, 0 or more.
    name : str
        The name of the file, for messages.

    Returns
    -------
    ndarray of uint8, uint16, uint32 or uint64, of the same shape

    Raises
    ------
    LabelError
        If a value is negative or not an integer.
    """
    if array.dtype.kind == "f":
        odd = np.nonzero(~(np.isfinite(array) & (np.rint(array) == array)).ravel())[0]
        if odd.size:
            raise LabelError(
                f"{name}: {odd.size} label values are not integers (such as "
                f"{array.ravel()[odd[0]]}); give a file of labels, not an image, and "
                "resample labels with nearest neighbour only"
            )
    if not array.size:
        return array.astype(np.uint8)
    smallest, largest = array.min(), array.max()
    if smallest < 0:
        raise LabelError(
            f"{name}: the smallest label value is {smallest}; expected 0 or more"
        )
    return array.astype(label_dtype(int(largest)), copy=False)


def label_dtype(largest: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds a label.

    Raises
    ------
    LabelError
        If it does not fit into 64 bits.
    """
    for kind in LABEL_DTYPES:
        if largest <= np.iinfo(kind).max:
            return np.dtype(kind)
    raise LabelError(f"label {largest} does not fit into 64 bits; renumber the labels")

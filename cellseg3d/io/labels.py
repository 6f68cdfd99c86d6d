"""Convert labels to the smallest unsigned dtype that holds them exactly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import LabelError
from cellseg3d.core.volume import Volume

# How many voxels to each side of the middle are looked at, and how many must be there.
PROBED, LEAST_PROBED = 256, 200
# Values above 0 that labels may have as classes. More are ids of objects, and many more
# neighbours that differ are an image.
MOST_CLASSES = 16
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


def doubt_labels(volume: Volume) -> str:
    """Return a sentence if integers are probably an image, not labels; else ``""``.

    In labels most neighbours are equal, and in an image of many values most differ.
    Only a part of the middle slice is read.

    Parameters
    ----------
    volume : Volume
        Labels or object ids.
    """
    z, y, x = volume.shape
    if volume.dtype.kind not in "iu":
        return ""
    rows, columns = (slice(max(0, n // 2 - PROBED), n // 2 + PROBED) for n in (y, x))
    part = np.asarray(volume.array[z // 2 : z // 2 + 1, rows, columns])
    left, right = part[:, :, :-1], part[:, :, 1:]
    held = (left != 0) | (right != 0)
    count = int(np.count_nonzero(held))
    differing = int(np.count_nonzero(left != right))
    if count < LEAST_PROBED or differing <= count / 2:
        return ""
    if len(np.unique(part)) <= MOST_CLASSES:
        return ""  # thin lines of a class
    return (
        f"seems to be an image, not labels: {differing / count:.0%} of its "
        "neighbouring voxels differ; check whether it is the right file"
    )


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

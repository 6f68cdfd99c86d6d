"""The colours in which every picture draws the label values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.ignore import IGNORE

# The palette of Okabe and Ito, which people with colour blindness can tell apart;
# doi:10.1038/nmeth.1618. The first colour is the background.
LABEL_COLOURS = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
# The colour of what is not annotated (255).
UNKNOWN_COLOUR = (90, 90, 90)


def colour_of(value: int) -> tuple[int, int, int]:
    """Return the colour of a class or object id; large values repeat the palette."""
    if value == 0:
        return LABEL_COLOURS[0]
    return LABEL_COLOURS[1 + (value - 1) % (len(LABEL_COLOURS) - 1)]


def colour_labels(labels: NDArray[Any], *, ids: bool = False) -> NDArray[np.uint8]:
    """Return the colours of labels.

    Parameters
    ----------
    labels : ndarray of integers, any shape
        Class indices or object ids; 0 is black.
    ids : bool
        Whether the values are object ids. Otherwise 255 is "not annotated".

    Returns
    -------
    ndarray of uint8, of the shape of `labels` and an axis of red, green and blue

    Examples
    --------
    >>> colour_labels(np.array([0, 1, 8, 255])).tolist()
    [[0, 0, 0], [230, 159, 0], [230, 159, 0], [90, 90, 90]]
    """
    # The remainder is taken in the dtype of the labels: 64-bit ids may exceed int64.
    kinds = labels - (labels > 0).astype(labels.dtype)
    index = (kinds % labels.dtype.type(len(LABEL_COLOURS) - 1)).astype(np.intp) + 1
    colours = np.asarray(LABEL_COLOURS, np.uint8)[np.where(labels > 0, index, 0)]
    if not ids:
        colours[labels == IGNORE] = UNKNOWN_COLOUR
    return colours

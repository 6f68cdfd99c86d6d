"""Turn the values of a label file into class indices, or refuse them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import LabelError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.datasets.cases import Datalist

# How many values a message lists before it says "and N more".
_LISTED = 8


def class_labels(
    values: NDArray[Any], datalist: Datalist, name: str
) -> NDArray[np.uint8]:
    """Return class indices from the values of a label file.

    Parameters
    ----------
    values : ndarray of an integer, bool or whole float dtype, shape (Z, Y, X)
        Class values, or object ids when the datalist says ``"objects"`` or
        ``"masks"``.
    datalist : Datalist
        The data set, which gives the classes, the label map and the kind of labels.
    name : str
        The file's name, for messages.

    Returns
    -------
    ndarray of uint8, shape (Z, Y, X)
        Class indices below the number of classes; 255 where not annotated.

    Raises
    ------
    LabelError
        If a value is fractional or has no class, or if only 0 and 255 occur and the
        label map does not say what 255 means.
    """
    whole = whole_numbers(values, name)
    if datalist.labels != "classes":
        return _foreground(whole, name)
    return map_labels(whole, datalist.label_map, len(datalist.classes), name)


def whole_numbers(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Return label values with an integer dtype and unchanged values.

    Raises
    ------
    LabelError
        If a value is fractional, NaN or infinite.
    """
    if values.dtype == np.bool_:
        return values.view(np.uint8)
    if np.issubdtype(values.dtype, np.integer):
        return values
    broken = ~np.isfinite(values) | (values != np.rint(values))
    if broken.any():
        first = tuple(int(i) for i in np.argwhere(broken)[0])
        message = (
            f"{name}: {int(broken.sum())} label values are not whole numbers (the "
            f"first is {values[first]} at zyx {first}), as after interpolation or in "
            "probabilities; save the labels again as integers"
        )
        raise LabelError(message)
    return values.astype(np.int64)


def map_labels(
    values: NDArray[Any], label_map: Mapping[int, int] | None, classes: int, name: str
) -> NDArray[np.uint8]:
    """Return integer label values as class indices.

    Parameters
    ----------
    values : ndarray of integers, any shape
        Values of the label file.
    label_map : mapping of int to int, or None
        The class index of each value; 0 and 255 keep their meaning unless named. With
        None, every value below `classes` is a class index, and 255 is not annotated.
    classes : int
        Number of classes, background included.
    name : str
        The file's name, for messages.

    Returns
    -------
    ndarray of uint8, of the same shape

    Raises
    ------
    LabelError
        If a value has no class. The message lists such values and their voxel counts.
    """
    found, counts = value_counts(values)
    known = {0: 0, IGNORE: IGNORE}
    known |= {index: index for index in range(classes)} if label_map is None else {}
    known |= dict(label_map or {})
    _refuse_binary(found, counts, label_map, name)
    strange = [
        (int(v), int(n))
        for v, n in zip(found, counts, strict=True)
        if int(v) not in known
    ]
    if strange:
        raise LabelError(_unexpected(strange, sorted(known), name))
    if all(known[int(value)] == int(value) for value in found):
        return values.astype(np.uint8, copy=False)
    return _translate(values, known)


def value_counts(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the values that occur, in rising order, and the voxel count of each."""
    if values.dtype in (np.uint8, np.uint16):
        counts = np.bincount(values.ravel())
        found = np.flatnonzero(counts)
        return found, counts[found]
    found, counts = np.unique(values, return_counts=True)
    return found, counts


def _refuse_binary(
    found: NDArray[Any],
    counts: NDArray[np.int64],
    label_map: Mapping[int, int] | None,
    name: str,
) -> None:
    mapped = label_map is not None and IGNORE in label_map
    if mapped or IGNORE not in found or set(found.tolist()) - {0, IGNORE}:
        return
    number = int(counts[np.flatnonzero(found == IGNORE)[0]])
    message = (
        f"{name}: holds only 0 and 255 ({number} voxels), and 255 means 'not "
        'annotated\'; if 255 is the object, put "label_map": {"255": 1} into the '
        'datalist; if not, {"255": 255}'
    )
    raise LabelError(message)


def _unexpected(strange: list[tuple[int, int]], known: list[int], name: str) -> str:
    listed = ", ".join(f"{v} ({n} voxels)" for v, n in strange[:_LISTED])
    more = f" and {len(strange) - _LISTED} more" if len(strange) > _LISTED else ""
    return (
        f"{name}: unexpected label values {listed}{more}; expected "
        f"{', '.join(map(str, known))}; name them in the datalist's label_map, or say "
        '"labels": "objects" if they are object ids'
    )


def _translate(values: NDArray[Any], known: Mapping[int, int]) -> NDArray[np.uint8]:
    if values.dtype in (np.uint8, np.uint16):
        table = np.zeros(int(np.iinfo(values.dtype).max) + 1, np.uint8)
        for source, target in known.items():
            if 0 <= source < table.size:
                table[source] = target
        mapped: NDArray[np.uint8] = table[values]
        return mapped
    result = np.zeros(values.shape, np.uint8)
    for source, target in known.items():
        if target:
            result[values == source] = target
    return result


def _foreground(ids: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if ids.size and int(ids.min()) < 0:
        message = f"{name}: the least object id is {int(ids.min())}; expected 0 or more"
        raise LabelError(message)
    return (ids > 0).astype(np.uint8)

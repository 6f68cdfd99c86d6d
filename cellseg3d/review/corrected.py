"""Read back label files that another program has saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.colours import LABEL_COLOURS, UNKNOWN_COLOUR
from cellseg3d.core.errors import AxisError, InputError, LabelError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.datasets.labels import value_counts, whole_numbers
from cellseg3d.io.registry import read_volume

_LISTED = 6


def read_corrected(
    path: Path, shape: tuple[int, int], classes: Sequence[str]
) -> NDArray[np.uint8]:
    """Return corrected labels, whatever type another program has saved them with.

    Integers of 8, 16 and 32 bits, floats that are whole numbers, and the indices of a
    palette are read as they are. In a picture in colours, the label colours of this
    package are turned back into labels. The file's spacing does not matter.

    Parameters
    ----------
    path : Path
        The file of the labels.
    shape : tuple of int
        Number of rows and of columns that the labels must have.
    classes : sequence of str
        Class names by label value.

    Returns
    -------
    ndarray of uint8, shape `shape`
        Class indices; 255 is "not annotated".

    Raises
    ------
    InputError
        If the file is missing or has another shape.
    LabelError
        If it holds a value that is not a class, or a colour that stands for none.
    """
    if not path.is_file():
        message = (
            f"{path}: is missing; save the corrected labels under this name, or copy "
            f"the prediction back from the folder {path.parent / 'predicted'}"
        )
        raise InputError(message)
    try:
        values = read_volume(path).read()
    except AxisError:
        values = _of_colours(path)
    flat = values.reshape(values.shape[-2:]) if values.shape[0] == 1 else values
    if flat.shape != shape:
        message = (
            f"{path}: holds labels of shape {flat.shape}; expected {shape} (rows, "
            "columns), as its image has: save the one slice, uncropped and unscaled"
        )
        raise InputError(message)
    labels = whole_numbers(flat, str(path))
    _check(labels, path, classes)
    return labels.astype(np.uint8)


def _of_colours(path: Path) -> NDArray[Any]:
    """Return the labels, int64, that the colours of a picture stand for."""
    parts = [read_volume(path, channel=number).read() for number in range(3)]
    pixels = np.stack(parts, axis=-1)
    labels = np.full(pixels.shape[:-1], -1, np.int64)
    colours = {**dict(enumerate(LABEL_COLOURS)), IGNORE: UNKNOWN_COLOUR}
    for value, colour in colours.items():
        labels[(pixels == colour).all(axis=-1)] = value
    if (labels < 0).any():
        wrong = pixels[labels < 0][0].tolist()
        message = (
            f"{path}: was saved in colours, and {wrong} is no label's; undo the "
            "change to RGB (in Fiji: File > Revert, then Image > Type > 8-bit) and "
            "save the label values themselves"
        )
        raise LabelError(message)
    return labels


def _check(labels: NDArray[Any], path: Path, classes: Sequence[str]) -> None:
    found, counts = value_counts(labels)
    known = [*range(len(classes)), IGNORE]
    strange = [
        f"{value} ({count} pixels)"
        for value, count in zip(found.tolist(), counts.tolist(), strict=True)
        if value not in known
    ]
    named = ", ".join(f"{value} {name}" for value, name in enumerate(classes))
    if strange:
        message = (
            f"{path}: holds the label values {', '.join(strange[:_LISTED])}; expected "
            f"{named}, or 255 for 'not annotated'. If they were rescaled when they "
            "were saved, switch that off (in Fiji: Edit > Options > Conversions, "
            "'Scale when converting') and correct the file again"
        )
        raise LabelError(message)
    if IGNORE in found and set(found.tolist()) <= {0, IGNORE}:
        message = (
            f"{path}: holds 0 and 255 only, as a mask does, and 255 means 'not "
            f"annotated'; draw with the values {named} (in Fiji, Process > Math > "
            "Divide by 255 turns a mask into the values 0 and 1)"
        )
        raise LabelError(message)

"""Choose one of the arrays in an HDF5 or Zarr file, and read spacings in attributes."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellseg3d.core.errors import FormatError, SpacingError
from cellseg3d.core.spacing import Spacing
from cellseg3d.io.layout import unknown_spacing

# The usual names of an image and of its labels in one file.
IMAGE_NAMES = ("raw", "image", "volume", "data", "exported_data")
LABEL_NAMES = ("label", "labels", "mask", "masks", "segmentation", "gt")
SPACING_KEY = "element_size_um"
_STATED = re.compile(r"element_size_([a-z]+)")
# Attributes that other programs write, without a unit or in an order that differs.
_DOUBTED = re.compile(
    r"(element|voxel|pixel)[_ ]?(size|spacing)|(resolution|spacing|scale)",
    re.IGNORECASE,
)


def choose(
    path: Path, found: Sequence[str], *, labels: bool, what: str = "datasets"
) -> tuple[str, list[str]]:
    """Return the array to read of several in a file, and a sentence about the others.

    Parameters
    ----------
    path : Path
        The file, for messages.
    found : sequence of str
        The paths of the arrays in the file, one or more.
    labels : bool
        Whether labels are wanted, not an image.
    what : str
        What the message calls them.

    Raises
    ------
    FormatError
        If there are several and not exactly one has a usual name.
    """
    if len(found) == 1:
        return found[0], []
    names = LABEL_NAMES if labels else IMAGE_NAMES
    named = [each for each in found if last_part(each) in names]
    if len(named) == 1:
        rest = ", ".join(each for each in found if each != named[0])
        said = f"its {named[0]} is read, but not {rest}, which it holds as well"
        return named[0], [said]
    more = " ..." if len(found) > 8 else ""
    raise FormatError(
        f"{path}: holds {len(found)} {what} ({', '.join(found[:8])}{more}); name one "
        f"as {path.name}::{(named or list(found))[0]}"
    )


def pair_in(found: Sequence[str]) -> tuple[str, str] | None:
    """Return the paths of an image and its labels among arrays; None without both."""
    image, label = (
        [each for each in found if last_part(each) in names]
        for names in (IMAGE_NAMES, LABEL_NAMES)
    )
    return (image[0], label[0]) if image and label else None


def last_part(name: str) -> str:
    """Return the last part of the path of an array, in lower case."""
    return name.rpartition("/")[2].lower()


def stated_spacing(attributes: Mapping[str, Any]) -> tuple[Spacing | None, list[str]]:
    """Return the spacing in the attributes of an array, and what is odd about it.

    ``element_size_um`` holds the edges (z, y, x) in um, ``element_size_nm`` in nm, and
    so on. Other attributes, such as ``resolution``, have no unit and no fixed order:
    they are only told.

    Parameters
    ----------
    attributes : mapping
        The attributes of an array in an HDF5 or Zarr file.
    """
    for key in sorted(attributes, key=lambda name: str(name) != SPACING_KEY):
        stated = _STATED.fullmatch(str(key).strip())
        if stated is None:
            continue
        try:
            lengths = np.ravel(attributes[key]).tolist()
            return Spacing.of(lengths, stated[1]), []
        except (SpacingError, TypeError, ValueError) as error:
            return None, [f"{unknown_spacing(error)} (attribute {key})"]
    for key in attributes:
        if _DOUBTED.fullmatch(str(key).strip()):
            found = " ".join(str(attributes[key]).split())
            return None, [
                f"its attribute {key} is {found:.60}, which has no unit and may be in "
                "another order, so its spacing is unknown; give `spacing_um`"
            ]
    return None, []

"""Ask whether label values mean what the data set says: background, classes, ids."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellseg3d.core.ignore import IGNORE
from cellseg3d.datasets.cases import Datalist
from cellseg3d.datasets.splits import Fold
from cellseg3d.doctor.findings import CLASS_NOT_TRAINED, Finding

# Names that a folder without a datalist gets.
_UNNAMED = re.compile(r"class_\d+")
# Object ids are asked for if a label has at least so many values, and at most so many.
LEAST_IDS, MOST_VALUES = 3, 64
# The background of an inverted mask is one piece with at least this share of it.
ONE_PIECE = 0.95
# The pieces of a mask are counted on a copy of about this many voxels.
COARSE_VOXELS = 2_000_000


def pieces_of(labels: NDArray[Any]) -> dict[int, int]:
    """Return in how many pieces each label value lies; nothing for many values.

    A value whose surface faces other values more than background counts as several
    pieces, since it is a part, such as a nucleus, and no object.

    Parameters
    ----------
    labels : ndarray of integers, shape (Z, Y, X)
        Label values.
    """
    if not labels.size or not 0 <= int(labels.min()) <= int(labels.max()) <= IGNORE:
        return {}
    boxes = ndimage.find_objects(labels)
    found = [value for value, box in enumerate(boxes, start=1) if box is not None]
    found = [value for value in found if value != IGNORE]
    if len(found) > MOST_VALUES:
        return {}
    counts = {}
    for value in found:
        wide = tuple(
            slice(max(0, side.start - 1), side.stop + 1) for side in boxes[value - 1]
        )
        part = labels[wide]
        mask = part == value
        _, count = ndimage.label(mask, np.ones((3, 3, 3)))
        around = part[ndimage.binary_dilation(mask) & ~mask]
        inside = np.count_nonzero(around) > around.size / 2
        counts[value] = max(2, int(count)) if inside else int(count)
    return counts


def seems_inverted(foreground: NDArray[np.bool_]) -> bool:
    """Return whether a mask seems to be 0 in its objects and 1 around them.

    The foreground is then most of the volume and in one piece, while the background
    lies in several pieces of which none is most of it.

    Parameters
    ----------
    foreground : ndarray of bool, shape (Z, Y, X)
    """
    step = max(1, round((foreground.size / COARSE_VOXELS) ** (1 / 3)))
    coarse = foreground[::step, ::step, ::step]
    share = float(coarse.mean()) if coarse.size else 0.0
    if not 0.5 < share < 1.0:
        return False
    outside, pieces = ndimage.label(coarse)
    if np.bincount(outside.ravel())[1:].max() < ONE_PIECE * share * coarse.size:
        return False
    objects, pieces = ndimage.label(~coarse)
    largest = np.bincount(objects.ravel())[1:].max()
    return bool(pieces > 1 and largest < ONE_PIECE * np.count_nonzero(objects))


def no_background(
    datalist: Datalist, classes: dict[int, int], values: Sequence[int]
) -> Iterator[Finding]:
    """Yield a warning if no voxel of any label is background.

    Parameters
    ----------
    datalist : Datalist
    classes : dict of int to int
        The number of voxels of each class index, in all labels.
    values : sequence of int
        The values of all label files, in rising order.
    """
    annotated = sum(count for index, count in classes.items() if index != IGNORE)
    if classes.get(0, 0) or not annotated:
        return
    least = min(values, default=1)
    cause = (
        "no voxel of any label is background (0), so all of them are learned as "
        f"objects; the least value is {least}, which some programs, such as ilastik, "
        "give to the background"
    )
    others = [value for value in values if value not in (least, IGNORE)]
    if len(values) == 2 and values[1] == IGNORE:
        others = [IGNORE]
    mapping = {least: 0} | {value: place for place, value in enumerate(others, start=1)}
    listed = ", ".join(f'"{value}": {index}' for value, index in mapping.items())
    way_out = (
        f'if {least} is the background, put "label_map": {{{listed}}} into a datalist '
        '("labels": "classes")'
    )
    yield Finding("warning", "no background", datalist.where, cause, way_out)


def perhaps_ids(
    datalist: Datalist, pieces: Sequence[dict[int, int]]
) -> Iterator[Finding]:
    """Yield a warning if unnamed classes are probably ids of objects.

    This is so if each value is one piece in each label, and one has several values.

    Parameters
    ----------
    datalist : Datalist
    pieces : sequence of dict of int to int
        What `pieces_of` returned for each label.
    """
    unnamed = all(map(_UNNAMED.fullmatch, datalist.classes[1:]))
    counts = [count for found in pieces for count in found.values()]
    most = max(map(len, pieces), default=0)
    if datalist.labels != "classes" or not unnamed or most < LEAST_IDS:
        return
    if any(count > 1 for count in counts):
        return
    cause = (
        f"each of the up to {most} label values is one piece in each label, as ids of "
        "objects are, but they are learned as classes"
    )
    way_out = 'if they are ids, say "labels": "objects" in a datalist'
    yield Finding("warning", "perhaps object ids", datalist.where, cause, way_out)


def absent_from_training(
    datalist: Datalist, fold: Fold, classes: dict[str, dict[int, int]]
) -> Iterator[Finding]:
    """Yield a warning for each class that occurs only in cases that do not train.

    Parameters
    ----------
    datalist : Datalist
    fold : Fold
    classes : dict of str to dict
        By the name of the case, the number of voxels of each class index.
    """
    known = {index for counts in classes.values() for index, n in counts.items() if n}
    training = {
        index
        for case in fold.training
        for index, n in classes.get(case.name, {}).items()
        if n
    }
    for index, name in enumerate(datalist.classes):
        if index in known - training:
            where = ", ".join(n for n, counts in classes.items() if counts.get(index))
            cause = (
                f"class {index} ({name}) occurs only in cases that do not train "
                f"({where}), so it cannot be learned"
            )
            way_out = "choose another `fold`, or put such a case on the training side"
            yield Finding("warning", CLASS_NOT_TRAINED, datalist.where, cause, way_out)

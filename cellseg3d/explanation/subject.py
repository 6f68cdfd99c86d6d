"""Find the object that is to be explained, and the box around it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.volume import Volume
from cellseg3d.metrics.components import label_components
from cellseg3d.prediction.pipeline import Pipeline

# Shape of the blocks in which labels are searched for an object.
BLOCK = (64, 512, 512)


@dataclass(frozen=True)
class Subject:
    """The object that is explained.

    Parameters
    ----------
    name : str
        What the files and the page call it, such as ``"object 7"``.
    box : Roi
        The box around it, in voxels of the volume.
    mask : ndarray of bool, shape (z, y, x)
        Its voxels in the box.
    cut : bool
        Whether the object goes on outside the box, which may not be larger.
    """

    name: str
    box: Roi
    mask: NDArray[np.bool_]
    cut: bool = False


def object_of(labels: Volume, value: int, most: Zyx) -> Subject:
    """Return the object with an id, read block by block.

    Parameters
    ----------
    labels : Volume
        Object ids; 0 is background.
    value : int
        The id.
    most : tuple of int
        The largest box (z, y, x), in voxels. Of a larger object, the part around its
        middle is taken.

    Raises
    ------
    InputError
        If no voxel has the id.
    """
    start, stop = np.array(labels.shape), np.zeros(3, int)
    for block in blocks(labels.shape, BLOCK):
        places = np.argwhere(labels.read(block) == value)
        if len(places):
            start = np.minimum(start, places.min(0) + block.start)
            stop = np.maximum(stop, places.max(0) + block.start + 1)
    if (stop == 0).any():
        message = (
            f"{labels.name}: holds no object {value}; give the number of one, or a "
            "place inside it with `point`"
        )
        raise InputError(message)
    whole = Roi(zyx(start.tolist()), zyx(stop.tolist()))
    middle = [(a + b) // 2 for a, b in zip(whole.start, whole.stop, strict=True)]
    box = whole.intersect(box_around(zyx(middle), most, labels.shape))
    mask = labels.read(box) == value
    if not mask.any():
        # The middle of a hollow or bent object may lie outside it.
        z, y, x = _any_voxel(labels, whole, value)
        box = whole.intersect(box_around((z, y, x), most, labels.shape))
        mask = labels.read(box) == value
    return Subject(f"object {value}", box, mask, box != whole)


def piece_at(labels: Volume, point: Zyx, most: Zyx) -> Subject:
    """Return the connected piece of one value that holds a place in labels.

    Parameters
    ----------
    labels : Volume
        Classes or object ids.
    point : tuple of int
        The place (z, y, x), in voxels.
    most : tuple of int
        The largest box (z, y, x) in which the piece is searched.

    Raises
    ------
    ConfigError
        If the place lies outside the volume or in the background.
    """
    check_inside(point, labels.shape, labels.name)
    box = box_around(point, most, labels.shape)
    return _piece(labels.read(box), box, point, labels.name)


def predicted_at(pipeline: Pipeline, point: Zyx, most: Zyx, name: str) -> Subject:
    """Return the connected piece of the predicted class that holds a place.

    Only chunks that the box around the place touches are predicted.

    Parameters
    ----------
    pipeline : Pipeline
    point, most
        As for `piece_at`.
    name : str
        The volume's name, for messages.

    Raises
    ------
    ConfigError
        If the place lies outside the volume, or background is predicted there.
    """
    check_inside(point, pipeline.shape, name)
    box = box_around(point, most, pipeline.shape)
    return _piece(pipeline.run(box).labels, box, point, name)


def box_around(point: Zyx, most: Zyx, shape: Zyx) -> Roi:
    """Return the box of at most a shape around a place, moved into the volume."""
    start = []
    for at, side, length in zip(point, most, shape, strict=True):
        start.append(max(0, min(at - side // 2, length - side)))
    box = Roi.at(zyx(start), zyx(most))
    return box.clip(shape)


def check_inside(point: Zyx, shape: Zyx, name: str) -> None:
    """Refuse a place outside a volume.

    Raises
    ------
    ConfigError
        If it lies outside.
    """
    if not all(0 <= at < length for at, length in zip(point, shape, strict=True)):
        message = (
            f"`point` {list(point)} lies outside {name}, whose shape is {list(shape)}; "
            "give z, y and x in voxels, counted from 0"
        )
        raise ConfigError(message)


def _piece(values: NDArray[np.integer], box: Roi, point: Zyx, name: str) -> Subject:
    z, y, x = (at - first for at, first in zip(point, box.start, strict=True))
    value = int(values[z, y, x])
    if value == 0:
        message = (
            f"{name}: the voxel at `point` {list(point)} is background; give a place "
            "inside an object"
        )
        raise ConfigError(message)
    pieces = label_components(values == value)
    mask = pieces == pieces[z, y, x]
    places = np.argwhere(mask)
    low, high = places.min(0), places.max(0) + 1
    at_border = (low == 0) & (np.array(box.start) > 0)
    inner = Roi(zyx(low.tolist()), zyx(high.tolist()))
    return Subject(
        f"object at {point[0]} {point[1]} {point[2]}",
        inner.shift(box.start),
        mask[inner.slices],
        bool(at_border.any()),
    )


def _any_voxel(labels: Volume, whole: Roi, value: int) -> Zyx:
    for block in blocks(whole.shape, BLOCK):
        here = block.shift(whole.start)
        places = np.argwhere(labels.read(here) == value)
        if len(places):
            middle = places[len(places) // 2] + here.start
            return zyx(middle.tolist())
    raise InputError(f"{labels.name}: changed while it was read; run again")

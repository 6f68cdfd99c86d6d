"""Draw samples before and after augmentation, with their labels as outlines."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.colours import colour_of
from cellseg3d.core.ignore import IGNORE
from cellseg3d.samples.loaders import Item, SampleDataset
from cellseg3d.samples.transforms import channels_of

_SMALLEST_SIDE = 192
_GAP = 8
_TITLE = 18
_PAIRS_A_ROW = 2


def write_preview(
    dataset: SampleDataset,
    path: Path,
    *,
    count: int = 8,
    classes: Sequence[str] = (),
) -> None:
    """Write a PNG of the first samples of an epoch, before and after augmentation.

    Parameters
    ----------
    dataset : SampleDataset
        Where the samples come from.
    path : Path
        The PNG file to create or replace.
    count : int
        Number of samples.
    classes : sequence of str
        Class names, for the legend.

    Raises
    ------
    EnvironmentFault
        If the file cannot be written.
    """
    picture = preview_picture(dataset, count=count, classes=classes)
    atomic_write(path, lambda new: picture.save(new, format="PNG"))


def preview_picture(
    dataset: SampleDataset, *, count: int = 8, classes: Sequence[str] = ()
) -> Image.Image:
    """Return a picture of samples, each crop beside the same crop augmented.

    A 3D patch is shown by its middle slice across z, and a 2.5D stack by its centre
    slice. Outlines are drawn inside each class. Voxels without annotation are dimmed.
    """
    plain = copy(dataset)
    plain.transform = None
    count = min(count, len(dataset))
    pairs = [(_panel(plain[index]), _panel(dataset[index])) for index in range(count)]
    height, width = pairs[0][0].shape[:2]
    wide = 2 * width + _GAP
    columns = min(_PAIRS_A_ROW, count)
    rows = -(-count // columns)
    size = (
        _GAP + columns * (wide + 2 * _GAP),
        2 * _TITLE + _GAP + rows * (height + _TITLE + _GAP),
    )
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    _legend(draw, classes)
    for number, (before, after) in enumerate(pairs):
        row, column = divmod(number, columns)
        left = _GAP + column * (wide + 2 * _GAP)
        top = 2 * _TITLE + row * (height + _TITLE + _GAP)
        name = str(plain[number]["case"])[: width // 7]
        draw.text((left, top), name, fill=(0, 0, 0))
        draw.text((left + width + _GAP, top), "augmented", fill=(0, 0, 0))
        sheet.paste(Image.fromarray(before), (left, top + _TITLE))
        sheet.paste(Image.fromarray(after), (left + width + _GAP, top + _TITLE))
    return sheet


def draw_outlines(
    image: NDArray[np.float32], label_yx: NDArray[Any]
) -> NDArray[np.uint8]:
    """Return a slice with the inner outline of each class in its colour.

    Parameters
    ----------
    image : ndarray of float32, shape (Y, X) or (C, Y, X)
        Scaled intensities; -1 becomes black and 1 white. Of several channels, the
        first is shown in red, the second in green and the third in blue.
    label_yx : ndarray, shape (Y, X)
        Class indices; pixels of 255 (not annotated) are dimmed.

    Returns
    -------
    ndarray of uint8, shape (Y, X, 3)
    """
    bright = np.clip((image + 1) * 127.5, 0, 255)
    bright = np.where(label_yx == IGNORE, bright * 0.5, bright)
    picture = np.zeros((*label_yx.shape, 3), np.uint8)
    shown = bright[:3] if bright.ndim == 3 else np.stack([bright] * 3)
    picture[..., : len(shown)] = np.moveaxis(shown, 0, -1).astype(np.uint8)
    padded = np.pad(label_yx, 1, mode="edge")
    edge = np.zeros(label_yx.shape, bool)
    for neighbour in (
        padded[:-2, 1:-1],
        padded[2:, 1:-1],
        padded[1:-1, :-2],
        padded[1:-1, 2:],
    ):
        edge |= neighbour != label_yx
    for value in np.unique(label_yx).tolist():
        if value not in (0, IGNORE):
            picture[edge & (label_yx == value)] = colour_of(int(value))
    return picture


def _panel(item: Item) -> NDArray[np.uint8]:
    """Return the slice to show, enlarged by a whole factor if it is small."""
    image, label = item["image"].numpy(), item["label"].numpy()[0]
    if image.ndim == 4:
        middle = image.shape[1] // 2
        image, label = image[:, middle], label[middle]
    else:
        count = channels_of(item)
        depth = image.shape[0] // count
        image = image[depth // 2 :: depth]
    times = max(1, -(-_SMALLEST_SIDE // max(image.shape[1:])))
    image, label = (a.repeat(times, -2).repeat(times, -1) for a in (image, label))
    return draw_outlines(image[0] if len(image) == 1 else image, label)


def _legend(draw: ImageDraw.ImageDraw, classes: Sequence[str]) -> None:
    left = float(_GAP)
    for value, name in enumerate(classes):
        if value:
            box = (left, _GAP / 2, left + 10, _GAP / 2 + 10)
            draw.rectangle(box, fill=colour_of(value))
            draw.text((left + 14, _GAP / 4), name, fill=(0, 0, 0))
            left += 24 + draw.textlength(name)

"""Draw the pictures of a good and a bad case for the model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellseg3d.core.colours import LABEL_COLOURS
from cellseg3d.core.ignore import IGNORE

# The longest side of a panel in pixels. It is small because pictures are packaged.
PANEL = 280
GAP = 6


def draw_triple(
    image: NDArray[np.float32], truth: NDArray[Any], found: NDArray[Any], path: Path
) -> None:
    """Write image, true labels and found labels of one slice side by side.

    Parameters
    ----------
    image : ndarray of float32, shape (y, x)
        Intensities, scaled to about -1 to 1.
    truth, found : ndarray of integers, shape (y, x)
        Class indices or object ids.
    path : Path
        The PNG file to write.
    """
    grey = np.clip((image + 1) * 127.5, 0, 255).astype(np.uint8)
    panels = [
        np.stack([grey] * 3, axis=-1),
        _colours(truth, grey),
        _colours(found, grey),
    ]
    pictures = [_small(Image.fromarray(panel)) for panel in panels]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (3 * width + 2 * GAP, height), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index * (width + GAP), 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128).save(path, optimize=True)


def fullest_slice(labels: NDArray[Any]) -> int:
    """Return the index of the z slice of labels (Z, Y, X) with the most foreground."""
    annotated = (labels > 0) & (labels != IGNORE)
    return int(annotated.reshape(len(labels), -1).sum(axis=1).argmax())


def best_and_worst(values: Mapping[str, float]) -> dict[str, str]:
    """Return the case with the highest score and the case with the lowest."""
    known = {case: value for case, value in values.items() if np.isfinite(value)}
    if not known:
        return {}
    ordered: Sequence[str] = sorted(known, key=lambda case: (known[case], case))
    return {"good": ordered[-1], "bad": ordered[0]}


def _colours(labels: NDArray[Any], grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image with coloured labels over it."""
    kinds = (len(LABEL_COLOURS) - 1) or 1
    index = np.where(labels > 0, 1 + (labels.astype(np.int64) - 1) % kinds, 0)
    table = np.array(LABEL_COLOURS, np.float32)
    shown = np.stack([grey] * 3, axis=-1).astype(np.float32)
    painted = 0.45 * shown + 0.55 * table[index]
    return np.where((index > 0)[..., None], painted, shown).astype(np.uint8)


def _small(picture: Image.Image) -> Image.Image:
    picture.thumbnail((PANEL, PANEL))
    return picture

"""Draw labels in their colours over the image: one slice across each axis."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellseg3d.core.colours import colour_labels
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.io.output.contact_sheet import CLIPPED, GAP, grey

# Longest side of the specimen in the picture, in pixels.
PANEL = 420
# The only slice of a 2D image is shown larger.
LARGE_PANEL = 840
# The share of a label's colour inside its outline.
OPACITY = 0.45
# Larger slices are thinned before they are drawn.
_LONGEST = 4096
_CANDIDATES = 7


def overlay_picture(image: Volume, labels: Volume, *, ids: bool = False) -> Image.Image:
    """Return the labels over the image, in true proportions if the spacing is known.

    Of a 3D volume it shows three slices. The one across z holds the most labels among
    seven that lie evenly apart; those across y and x go through the middle of its
    labels. Only these slices are read.

    Parameters
    ----------
    image, labels : Volume
        Two volumes of one shape (Z, Y, X); the first channel of the image is shown.
    ids : bool
        Whether the labels are object ids. Otherwise 255 is "not annotated".

    Returns
    -------
    PIL.Image.Image
        An RGB picture.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    image = image.channel(0)
    if image.shape != labels.shape:
        message = f"labels of shape {labels.shape} do not fit an image {image.shape}"
        raise ValueError(message)
    places = chosen_slices(labels)
    axes = "z" if labels.shape[0] == 1 else "zyx"
    spacing = image.spacing or labels.spacing
    edges = spacing.zyx if spacing is not None else (1.0, 1.0, 1.0)
    lengths = [size * edge for size, edge in zip(labels.shape, edges, strict=True)]
    flat = axes == "z"
    scale = (LARGE_PANEL if flat else PANEL) / max(lengths[flat:])
    planes = {
        axis: [_plane(volume, "zyx".index(axis), places) for volume in (image, labels)]
        for axis in axes
    }
    values = np.concatenate([plane.ravel() for plane, _ in planes.values()])
    finite = values[np.isfinite(values)].astype(np.float64)
    lower, upper = np.percentile(finite, CLIPPED) if finite.size else (0.0, 1.0)
    panels = []
    for axis, (plane, found) in planes.items():
        size = [
            max(1, round(length * scale))
            for length, letter in zip(lengths, "zyx", strict=True)
            if letter != axis
        ]
        drawn = _laid_over(grey(np.nan_to_num(plane), lower, upper), found, ids=ids)
        panels.append(_resized(drawn, size[1], size[0]))
    return _side_by_side(panels)


def chosen_slices(labels: Volume) -> tuple[int, int, int]:
    """Return the slices (z, y, x) that an overlay shows."""
    depth, height, width = labels.shape
    steps = np.linspace(0, depth - 1, min(depth, _CANDIDATES) + 2)[1:-1]
    candidates = sorted({round(float(step)) for step in steps} | {depth // 2})
    # The middle one comes first: it is taken where another one holds no more.
    candidates.sort(key=lambda z: abs(z - depth // 2))
    counts = [int((_plane(labels, 0, (z, 0, 0)) > 0).sum()) for z in candidates]
    best = candidates[int(np.argmax(counts))]
    rows, columns = np.nonzero(_plane(labels, 0, (best, 0, 0)))
    if not rows.size:
        return depth // 2, height // 2, width // 2
    step = _step((height, width))
    return best, int(np.median(rows)) * step, int(np.median(columns)) * step


def _plane(volume: Volume, axis: int, places: tuple[int, int, int]) -> NDArray[Any]:
    """Return one slice, thinned if it is large, without reading the others."""
    start, stop = [0, 0, 0], list(volume.shape)
    start[axis], stop[axis] = places[axis], places[axis] + 1
    roi = Roi((*start,), (*stop,))  # type: ignore[arg-type]
    found: NDArray[Any] = volume.read(roi).squeeze(axis)
    step = _step(found.shape)
    return found[::step, ::step]


def _step(shape: tuple[int, ...]) -> int:
    return max(1, -(-max(shape) // _LONGEST))


def _laid_over(
    picture: NDArray[np.uint8], labels: NDArray[Any], *, ids: bool
) -> NDArray[np.uint8]:
    """Return a grey slice with labels in colours, their outlines in full colour."""
    padded = np.pad(labels, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    edge = np.zeros(labels.shape, np.bool_)
    for down, across in ((0, 1), (2, 1), (1, 0), (1, 2)):
        rows, columns = labels.shape
        edge |= padded[down : down + rows, across : across + columns] != middle
    share = np.where(labels > 0, np.where(edge, 1.0, OPACITY), 0.0)[..., np.newaxis]
    mixed = picture * (1 - share) + colour_labels(labels, ids=ids) * share
    drawn: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return drawn


def _resized(picture: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    """Return a picture of a size; voxels that are enlarged stay sharp."""
    smaller = width < picture.shape[1]
    kind = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return Image.fromarray(picture).resize((width, height), kind)


def _side_by_side(panels: list[Image.Image]) -> Image.Image:
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (width, max(panel.height for panel in panels)), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + GAP
    return sheet

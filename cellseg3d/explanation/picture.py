"""Draw an explanation: image, object, attribution, occlusion and filters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellseg3d.core.axes import axis_index
from cellseg3d.core.colours import colour_of
from cellseg3d.core.spacing import Spacing
from cellseg3d.explanation.crop import Crop
from cellseg3d.explanation.filters import Filter
from cellseg3d.io.output.contact_sheet import CLIPPED, GAP, TITLE, grey

# The longer side of a panel, in pixels.
PANEL = 300
# Panels in a row.
COLUMNS = 4
# The colours of voxels that lower and that raise the score.
LOWER, RAISE = (45, 110, 220), (225, 60, 30)
# Weights above this quantile of their absolute values have the full colour.
FULL = 0.995


def explanation_picture(
    crop: Crop,
    value: int,
    attributed: NDArray[np.float32],
    covered: NDArray[np.float32],
    filters: Sequence[Filter],
    spacing: Spacing | None,
) -> Image.Image:
    """Return the panels of an explanation in the slice that shows most of the object.

    Parameters
    ----------
    crop : Crop
    value : int
        The class, whose colour the outline has.
    attributed, covered : ndarray of float32, shape (z, y, x)
        Attribution and occlusion.
    filters : sequence of Filter
        Those that are drawn.
    spacing : Spacing or None
        Voxel edges, for true proportions.

    Returns
    -------
    PIL.Image.Image
        An RGB picture.
    """
    axis = axis_index(crop.pipeline.sources[0].lattice.axis or "z")
    inside = np.moveaxis(crop.inside.numpy(), axis, 0)
    place = int(inside.sum((1, 2)).argmax())
    planes = {
        name: np.moveaxis(array, axis, 0)[place]
        for name, array in (
            ("image", crop.image[0].numpy()),
            ("attribution", attributed),
            ("occlusion", covered),
        )
    }
    mask = inside[place]
    shown = _shown(crop, axis)
    low, high = np.percentile(planes["image"][shown], CLIPPED)
    plain = grey(planes["image"], float(low), float(high))
    edges = [1.0, 1.0] if spacing is None else _without(spacing, axis)
    outlined = _outlined(plain, mask, colour_of(value))
    panels = [
        ("image", plain),
        ("object", _filled(outlined, mask, colour_of(value))),
        (
            "attribution: red raises the score, blue lowers it",
            _outlined(_coloured(plain, planes["attribution"]), mask, (0, 0, 0)),
        ),
        (
            "occlusion: red lowers the score if it is blurred",
            _outlined(_coloured(plain, planes["occlusion"]), mask, (0, 0, 0)),
        ),
    ]
    for each in filters:
        lower, upper = np.percentile(each.picture, CLIPPED)
        response = grey(each.picture, float(lower), float(upper))
        title = (
            f"filter {each.number}, layer {each.depth} of {each.layers}: "
            f"{each.contrast:+.2f} sd"
        )
        panels.append((title, _within(response, shown, mask.shape)))
    panels[:4] = [(title, array[shown]) for title, array in panels[:4]]
    drawn = mask[shown].shape
    shape = [side * edge for side, edge in zip(drawn, edges, strict=True)]
    scale = PANEL / max(shape)
    size = (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale)))
    return _sheet(panels, size)


def _without(spacing: Spacing, axis: int) -> list[float]:
    return [edge for index, edge in enumerate(spacing.zyx) if index != axis]


def _shown(crop: Crop, axis: int) -> tuple[slice, slice]:
    """Return the part of a slice of the crop that lies inside the volume."""
    inner = crop.box.clip(crop.pipeline.shape).within(crop.box).slices
    first, second = (part for index, part in enumerate(inner) if index != axis)
    return first, second


def _within(
    picture: NDArray[np.uint8], shown: tuple[slice, slice], sides: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Return the part of a layer's answer that lies inside the volume."""
    place = []
    for part, side, own in zip(shown, sides, picture.shape[:2], strict=True):
        first = round(part.start * own / side)
        place.append(slice(first, max(first + 1, round(part.stop * own / side))))
    return picture[place[0], place[1]]


def _coloured(
    plain: NDArray[np.uint8], weights: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return a grey slice with weights over it, stronger the larger they are."""
    most = float(np.quantile(np.abs(weights), FULL)) or 1.0
    share = np.clip(np.abs(weights) / most, 0, 1)[..., None] ** 0.7
    hue = np.where((weights > 0)[..., None], RAISE, LOWER)
    faint = 110 + 0.55 * (plain.astype(np.float32) - 110)
    return np.rint(faint * (1 - share) + hue * share).clip(0, 255).astype(np.uint8)


def _filled(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Sequence[int]
) -> NDArray[np.uint8]:
    found = picture.copy()
    found[mask] = np.rint(0.7 * found[mask] + 0.3 * np.array(colour)).astype(np.uint8)
    return found


def _outlined(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: Sequence[int]
) -> NDArray[np.uint8]:
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    found = picture.copy()
    found[mask & ~inner] = colour
    return found


def _sheet(panels: Sequence[tuple[str, Any]], size: tuple[int, int]) -> Image.Image:
    width, height = max(size[0], PANEL), size[1] + TITLE
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    sheet = Image.new(
        "RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for index, (title, array) in enumerate(panels):
        left, top = index % columns * (width + GAP), index // columns * (height + GAP)
        draw.text((left, top + 2), title, fill="black")
        panel = Image.fromarray(array).resize(size, Image.Resampling.NEAREST)
        sheet.paste(panel, (left, top + TITLE))
    return sheet

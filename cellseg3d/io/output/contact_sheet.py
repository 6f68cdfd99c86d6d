"""Draw the three middle slices of volumes side by side, in true proportions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cellseg3d.core.colours import colour_labels
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume

PANEL = 320
GAP = 8
TITLE = 18
# Values outside these percentiles are clipped, so that one bright grain does not
# darken the rest.
CLIPPED = (0.5, 99.5)


def contact_sheet(volumes: Sequence[tuple[str, Volume, bool]]) -> Image.Image:
    """Return a picture with a row for each volume: its middle slices.

    Parameters
    ----------
    volumes : sequence of (str, Volume, bool)
        For each volume its title, the volume, and whether its values are labels, which
        are drawn in colours.

    Returns
    -------
    PIL.Image.Image
        An RGB picture. Voxels have their true proportions if the spacing is known.
    """
    rows = [_row(title, volume, labels=labels) for title, volume, labels in volumes]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def mid_slices(volume: Volume) -> dict[str, NDArray[Any]]:
    """Return the middle slice across each axis, without reading the whole volume.

    Returns
    -------
    dict of axis letter to ndarray of the volume's dtype
        Shapes (y, x) for z, (z, x) for y and (z, y) for x.
    """
    found = {}
    for axis, letter in enumerate("zyx"):
        start, stop = [0, 0, 0], list(volume.shape)
        start[axis] = volume.shape[axis] // 2
        stop[axis] = start[axis] + 1
        part = volume.read(Roi((*start,), (*stop,)))  # type: ignore[arg-type]
        found[letter] = part.squeeze(axis)
    return found


def _row(title: str, volume: Volume, *, labels: bool) -> Image.Image:
    slices = mid_slices(volume)
    edges = volume.spacing.zyx if volume.spacing is not None else (1.0, 1.0, 1.0)
    z, y, x = (length * edge for length, edge in zip(volume.shape, edges, strict=True))
    scale = PANEL / max(z, y, x)
    sides = {"z": (y, x), "y": (z, x), "x": (z, y)}
    lower, upper = _range(slices)
    panels = []
    for letter, plane in slices.items():
        height, width = (max(1, round(side * scale)) for side in sides[letter])
        colours = (
            colour_labels(plane, ids=True) if labels else grey(plane, lower, upper)
        )
        # Nearest neighbour shows the voxels as they are and does not mix labels.
        panels.append(
            Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)
        )
    width = sum(panel.width for panel in panels) + GAP * (len(panels) + 1)
    height = max(panel.height for panel in panels) + TITLE + 2 * GAP
    row = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(row)
    pen.text((GAP, GAP // 2), _drawable(title), fill="black")
    left = GAP
    for letter, panel in zip("zyx", panels, strict=True):
        row.paste(panel, (left, TITLE + GAP))
        pen.text((left + 3, TITLE + GAP + 1), letter, fill="red")
        left += panel.width + GAP
    return row


def _range(slices: dict[str, NDArray[Any]]) -> tuple[float, float]:
    values = np.concatenate([plane.ravel() for plane in slices.values()])
    lower, upper = np.percentile(values.astype(np.float64), CLIPPED)
    return float(lower), float(upper)


def grey(plane: NDArray[Any], lower: float, upper: float) -> NDArray[np.uint8]:
    """Return a plane as RGB, `lower` in black and `upper` in white."""
    span = upper - lower if upper > lower else 1.0
    scaled = np.clip((plane.astype(np.float64) - lower) / span, 0.0, 1.0)
    grey = np.rint(scaled * 255).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def _drawable(title: str) -> str:
    """Return a title without the letters that Pillow's built-in font lacks."""
    return title.encode("latin-1", "replace").decode("latin-1").replace("\n", " ")

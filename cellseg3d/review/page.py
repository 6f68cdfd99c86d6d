"""Write the HTML page that shows the pieces of a review."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cellseg3d.core.atomic import write_text
from cellseg3d.core.colours import colour_of
from cellseg3d.review.pieces import MARKS, Piece, Review

# Longest side of a picture on the page, in pixels.
SIDE = 320
# The share of a label's colour where it is laid over the image.
OPACITY = 0.5
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem;
  padding: 0 1rem; color: #17202b; background: #f6f7f9; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.05rem; margin-bottom: .2rem; }
section { background: #fff; border: 1px solid #dfe4ea; border-radius: 10px;
  padding: .4rem 1rem 1rem; margin: 1rem 0; overflow-wrap: anywhere; }
.pictures { display: flex; gap: .8rem; flex-wrap: wrap; }
figure { margin: 0; } figcaption { font-size: .85rem; color: #5b6776; }
.key { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em; }
"""


@dataclass(frozen=True)
class Shown:
    """The pictures of a piece on the page; each array has the shape (rows, columns).

    Parameters
    ----------
    image : ndarray of a numeric dtype
        Intensities of the volume.
    labels : ndarray of uint8
        Predicted class indices.
    uncertainty : ndarray of float32
        In [0, 1].
    """

    image: NDArray[Any]
    labels: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]


def write_page(path: Path, review: Review, shown: Mapping[str, Shown]) -> None:
    """Write one HTML file with a section for each piece; it loads nothing else.

    Parameters
    ----------
    path : Path
        The file to write.
    review : Review
    shown : mapping of str to Shown
        The pictures of each piece, by its name.
    """
    keys = "".join(
        f'<span class="key" style="background: rgb{colour_of(value)}"></span>'
        f"{value} {escape(name)}"
        for value, name in enumerate(review.classes)
        if value
    )
    volumes = ", ".join(Path(name).name for name in review.volumes)
    sections = "\n".join(_section(each, shown[each.name]) for each in review.pieces)
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Review of {escape(volumes)}</title><style>{STYLE}</style></head><body>
<h1>{len(review.pieces)} pieces to review</h1>
<p>Volumes: {escape(volumes)}. The pieces of which the network is least sure come
first.</p>
<ol><li>Correct the files that end in <code>_labels.tif</code>, in Fiji, napari or
another program, and save them under the same name. The value 255 means "not
annotated".</li>
<li>If a prediction is right as it is, write <code>yes</code> into the column
<code>seen</code> of <code>{MARKS}</code>. A corrected file counts without a mark.</li>
<li>Run <code>cellseg3d review merge {escape(str(review.folder))}</code>.</li></ol>
<p>Label values: 0 {escape(review.classes[0])}{keys}</p>
{sections}
</body></html>
"""
    write_text(path, text)


def _section(piece: Piece, shown: Shown) -> str:
    grey = _grey(shown.image)
    pictures = {
        "image": grey,
        "predicted labels": _painted(grey, shown.labels),
        "uncertainty (white: least sure)": _heat(shown.uncertainty),
    }
    figures = "".join(
        f'<figure><img alt="{escape(words)}" src="{_address(each)}">'
        f"<figcaption>{escape(words)}</figcaption></figure>"
        for words, each in pictures.items()
    )
    return (
        f"<section><h2>{escape(piece.labels_file(Path()).name)}</h2>"
        f"<p>{escape(Path(piece.volume).name)}, slice {piece.slice_number} across "
        f"{piece.axis} ({escape(str(piece.roi))}); mean uncertainty "
        f'{piece.uncertainty:.3f}</p><div class="pictures">{figures}</div></section>'
    )


def _grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    values = image.astype(np.float64)
    low, high = np.percentile(values, [0.5, 99.5])
    scaled = (values - low) / max(float(high - low), 1e-12)
    grey = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _painted(grey: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    table = np.array([colour_of(value) for value in range(256)], np.float64)
    mixed = (1 - OPACITY) * grey + OPACITY * table[labels]
    painted: NDArray[np.uint8] = np.where((labels > 0)[..., None], mixed, grey).astype(
        np.uint8
    )
    return painted


def _heat(uncertainty: NDArray[np.float32]) -> NDArray[np.uint8]:
    most = max(float(uncertainty.max(initial=0)), 1e-6)
    grey = np.rint(uncertainty / most * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _address(pixels: NDArray[np.uint8]) -> str:
    """Return a picture as a ``data:`` address."""
    picture = Image.fromarray(pixels)
    scale = SIDE / max(picture.size)
    size = [max(1, round(side * scale)) for side in picture.size]
    small = picture.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()

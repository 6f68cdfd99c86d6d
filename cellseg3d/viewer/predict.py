"""Segment a layer with a bundle, part by part, until it is done or stopped."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg3d.api import segment
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.shipped import shipped_bundles, weights_file
from cellseg3d.objects.label import label_objects
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.tune_objects import decoder_of
from cellseg3d.viewer.layers import (
    LayerData,
    label_layer,
    placed_like,
    volume_of,
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What a user asks of a segmentation.

    Parameters
    ----------
    bundle : str
        Name of a bundle that came along, or a folder.
    objects : bool
        Whether to number single objects as well.
    uncertainty : bool
        Whether to show where not to trust the labels.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """

    bundle: str
    objects: bool = False
    uncertainty: bool = False
    device: str = "auto"


def bundles_with_weights() -> list[str]:
    """Return the names of the bundles that can segment at once."""
    found = shipped_bundles()
    return [name for name, folder in found.items() if weights_file(folder).is_file()]


def segment_layer(
    layer: Any,  # noqa: ANN401 - a layer of napari
    wanted: Wanted,
    progress: Progress | None = None,
) -> list[LayerData]:
    """Return new layers: labels, and what else was asked for.

    Parameters
    ----------
    layer : napari.layers.Image
    wanted : Wanted
    progress : callable, optional
        As for `cellseg3d.segment`; it may raise an error to stop.

    Raises
    ------
    CellSegError
        If the layer is no volume of one channel, or the bundle cannot be used.
    """
    model = load_model(_place(wanted.bundle))
    options = SegmentOptions(
        device=wanted.device, probs=wanted.objects, uncertainty=wanted.uncertainty
    )
    volume = volume_of(layer)
    found = segment(volume, model, options=options, progress=progress)
    labels = found.labels.read()
    made = [label_layer(labels, layer, f"{layer.name} labels", model.classes)]
    if wanted.objects and found.probs is not None:
        decoder = decoder_of(model, volume.spacing)
        ids = label_objects(found.probs, volume.spacing, decoder)
        name = f"{layer.name} objects ({ids.count})"
        made.append(label_layer(ids.volume.read(), layer, name))
    if found.uncertainty is not None:
        shown = found.uncertainty[0] if layer.data.ndim == 2 else found.uncertainty
        look = {"colormap": "inferno", "blending": "additive", "visible": False}
        keywords = placed_like(layer, f"{layer.name} uncertainty")
        made.append(
            (shown, {**keywords, **look, "contrast_limits": (0.0, 1.0)}, "image")
        )
    return made


def _place(bundle: str) -> str | Path:
    """Return a folder with the user's home in place of ``~``, or a name."""
    return Path(bundle).expanduser() if Path(bundle).expanduser().is_dir() else bundle

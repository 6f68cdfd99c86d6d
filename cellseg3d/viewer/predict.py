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
    """Options of a segmentation in napari.

    Parameters
    ----------
    bundle : str
        Name of a bundle of the package, or the folder of a bundle or run.
    objects : bool
        Whether to add a layer of object ids.
    uncertainty : bool
        Whether to add a layer of the labels' uncertainty, in [0, 1].
    device : {"auto", "cpu", "cuda", "mps"}
        Where the network runs.
    """

    bundle: str
    objects: bool = False
    uncertainty: bool = False
    device: str = "auto"


def bundles_with_weights() -> list[str]:
    """Return the names of the bundles that come with weights."""
    found = shipped_bundles()
    return [name for name, folder in found.items() if weights_file(folder).is_file()]


def segment_layer(
    layer: Any,  # noqa: ANN401 - a layer of napari
    wanted: Wanted,
    progress: Progress | None = None,
) -> list[LayerData]:
    """Segment a layer; return layers of labels and, if wanted, ids and uncertainty.

    Parameters
    ----------
    layer : napari.layers.Image
    wanted : Wanted
    progress : callable, optional
        As for `cellseg3d.segment`. If it raises an error, the segmentation stops.

    Raises
    ------
    CellSegError
        If the layer is not a volume of one channel, or the bundle cannot be used.
    """
    model = load_model(_place(wanted.bundle))
    options = SegmentOptions(
        device=wanted.device,
        probs=wanted.objects,
        uncertainty=wanted.uncertainty,
        calibrated=not wanted.objects,
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

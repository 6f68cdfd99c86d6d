"""Segment a layer with a bundle, part by part, until it is done or stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg3d.api import segment
from cellseg3d.bundle.model import load_model, networks_of
from cellseg3d.bundle.shipped import shipped_bundles, weights_file
from cellseg3d.objects.label import label_objects
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.tune_objects import decoder_of
from cellseg3d.viewer.layers import (
    CHANNEL,
    LayerData,
    as_layer,
    label_layer,
    placed_like,
    volume_of,
    volume_of_channels,
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
    channels: Sequence[Any] = (),
) -> list[LayerData]:
    """Segment a layer; return layers of labels and, if wanted, ids and uncertainty.

    Parameters
    ----------
    layer : napari.layers.Image
    wanted : Wanted
    progress : callable, optional
        As for `cellseg3d.segment`. If it raises an error, the segmentation stops.
    channels : sequence of napari.layers.Image
        The layers of all channels, for a network of several; `layer` alone if empty.

    Raises
    ------
    CellSegError
        If the layers do not have the channels of the network, or the bundle cannot be
        used.
    """
    model = load_model(_place(wanted.bundle))
    options = SegmentOptions(
        device=wanted.device,
        probs=wanted.objects,
        uncertainty=wanted.uncertainty,
        calibrated=not wanted.objects,
    )
    count = max(network.spec.image_channels for network in networks_of(model))
    several = [*channels] or [layer]
    # The result of all channels is not called like one of them.
    channel = layer.metadata.get(CHANNEL) if count > 1 else None
    name = layer.name.removesuffix(f", {channel}")
    volume = volume_of(layer) if count == 1 else volume_of_channels(several, count)
    found = segment(volume, model, options=options, progress=progress)
    labels = found.labels.read()
    made = [label_layer(labels, layer, f"{name} labels", model.classes)]
    if wanted.objects and found.probs is not None:
        decoder = decoder_of(model, volume.spacing)
        ids = label_objects(found.probs, volume.spacing, decoder)
        called = f"{name} objects ({ids.count})"
        made.append(label_layer(ids.volume.read(), layer, called))
    if found.uncertainty is not None:
        shown = as_layer(found.uncertainty, layer)
        look = {"colormap": "inferno", "blending": "additive", "visible": False}
        keywords = placed_like(layer, f"{name} uncertainty")
        made.append(
            (shown, {**keywords, **look, "contrast_limits": (0.0, 1.0)}, "image")
        )
    return made


def _place(bundle: str) -> str | Path:
    """Return a folder with the user's home in place of ``~``, or a name."""
    return Path(bundle).expanduser() if Path(bundle).expanduser().is_dir() else bundle

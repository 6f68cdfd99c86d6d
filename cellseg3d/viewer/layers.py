"""Turn volumes into layers of napari and back, with spacing, names and colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ChannelStack
from cellseg3d.core.colours import LABEL_COLOURS
from cellseg3d.core.errors import AxisError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.core.words import counted
from cellseg3d.datasets.voxel_sample import sample_voxels

# A layer as readers give it to napari: data, keywords, and kind of layer.
LayerData = tuple[Any, dict[str, Any], str]
SPACING = "spacing_um"
CHANNEL = "channel"
# Intensities outside of these percentiles are shown in black and in white.
SHOWN = (0.5, 99.5)
_PIXEL = "pixel"
# Colours of channels that lie over one another.
TINTS = ("cyan", "magenta", "yellow", "green", "red", "blue")


def layer_of(volume: Volume, name: str, kind: str) -> LayerData:
    """Return a volume as a layer, with its voxel edges.

    Parameters
    ----------
    volume : Volume
        If it is lazy, napari reads the slices that it shows.
    name : str
        The layer's name.
    kind : {"image", "labels"}
    """
    keywords: dict[str, Any] = {"name": name, "metadata": {SPACING: None}}
    if volume.spacing is not None:
        keywords["scale"] = volume.spacing.zyx
        keywords["units"] = ("um", "um", "um")
        keywords["metadata"] = {SPACING: volume.spacing.zyx}
    if kind == "image":
        low, high = np.percentile(sample_voxels(volume), SHOWN)
        if low < high:
            keywords["contrast_limits"] = (float(low), float(high))
    return volume.array, keywords, kind


def channel_layers(volume: Volume, name: str) -> list[LayerData]:
    """Return an image as a layer for each channel; several lie transparent on another.

    Parameters
    ----------
    volume : Volume
    name : str
        The name of the only layer, or how the names of several begin.
    """
    if volume.channels == 1:
        return [layer_of(volume.channel(0), name, "image")]
    made = []
    for number, channel in enumerate(volume.each_channel()):
        called = volume.channel_called(number)
        data, keywords, kind = layer_of(channel, f"{name}, {called}", "image")
        if volume.channel_names:
            keywords["metadata"][CHANNEL] = called
        keywords["blending"] = "additive"
        keywords["colormap"] = TINTS[number % len(TINTS)]
        made.append((data, keywords, kind))
    return made


def channels_beside(layer: Any, layers: Any) -> list[Any]:  # noqa: ANN401
    """Return the layers that hold the channels of an image, in the viewer's order.

    Parameters
    ----------
    layer : napari.layers.Image
        One of the channels.
    layers : napari.components.LayerList
        All layers of the viewer. If `layer` and others are selected in it, these are
        the channels; otherwise all layers from the file of `layer` are.
    """
    images = [each for each in layers if hasattr(each, "rgb")]
    selected = [each for each in images if each in layers.selection]
    if len(selected) > 1 and layer in selected:
        return selected
    path = layer.source.path
    same = [each for each in images if path and each.source.path == path]
    return same if layer in same else [layer]


def volume_of_channels(layers: Sequence[Any], count: int) -> Volume:
    """Return the volume of several channels that layers of napari hold.

    Parameters
    ----------
    layers : sequence of napari.layers.Image
        A layer for each channel, or one layer with the axes (c, z, y, x).
    count : int
        How many channels are expected.

    Raises
    ------
    AxisError
        If there are more or fewer channels, or if their shapes differ.
    """
    first = layers[0]
    if len(layers) == 1 and first.data.ndim == 4 and len(first.data) == count:
        return Volume(first.data, spacing_of(first), provenance={"path": first.name})
    if len(layers) != count:
        listed = ", ".join(each.name for each in layers)
        message = (
            f"{first.name}: expected {count} channels, but found "
            f"{counted(len(layers), 'layer')} ({listed}); select the {count} layers "
            "of the channels in the list of layers, and no others"
        )
        raise AxisError(message)
    parts = [volume_of(each) for each in layers]
    if len({part.shape for part in parts}) > 1:
        message = f"{first.name}: the layers of its channels differ in shape"
        raise AxisError(message)
    names = [each.metadata.get(CHANNEL) for each in layers]
    return Volume(
        ChannelStack(tuple(part.array for part in parts)),
        parts[0].spacing,
        provenance={"path": first.name},
        channel_names=tuple(names) if all(names) else (),
    )


def volume_of(layer: Any) -> Volume:  # noqa: ANN401 - a layer of napari
    """Return the volume that a layer shows; a 2D image has one slice.

    Parameters
    ----------
    layer : napari.layers.Layer
        A layer that this package opened has the spacing of its file. Other layers have
        their scale for spacing if their units are lengths, and else none.

    Raises
    ------
    AxisError
        If the layer holds colours, channels or time points.
    """
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    if getattr(layer, "rgb", False) or data.ndim not in (2, 3):
        message = (
            f"{layer.name}: has {data.ndim} axes"
            f"{', colours' if getattr(layer, 'rgb', False) else ''}; expected one "
            "channel of z, y, x: split the stack into its channels first"
        )
        raise AxisError(message)
    if data.ndim == 2:
        data = np.asarray(data)[np.newaxis]
    return Volume(data, spacing_of(layer), provenance={"path": layer.name})


def spacing_of(layer: Any) -> Spacing | None:  # noqa: ANN401
    """Return the voxel edges of a layer in um; None when they are unknown."""
    noted = layer.metadata.get(SPACING)
    if noted is not None:
        return Spacing.of(noted)
    units = [str(unit) for unit in (layer.units or ())]
    if SPACING in layer.metadata or not units or _PIXEL in units:
        return None
    edges = [
        float((size * unit).to("um").magnitude)
        for size, unit in zip(layer.scale, _units(layer), strict=True)
    ][-3:]
    if len(edges) == 2:  # the thickness of a slice is unknown; take its pixel's edge
        edges = [edges[0], *edges]
    return Spacing.of(edges)


def label_layer(
    labels: NDArray[Any],
    like: Any,  # noqa: ANN401
    name: str,
    classes: Sequence[str] | None = None,
) -> LayerData:
    """Return labels as a layer over the image that they were predicted from.

    Parameters
    ----------
    labels : ndarray of integers, shape (Z, Y, X)
        Class indices, or ids of objects.
    like : napari.layers.Layer
        The image.
    name : str
    classes : sequence of str, optional
        Names of the classes by label value; ids of objects when None.
    """
    shown = as_layer(labels, like)
    keywords: dict[str, Any] = placed_like(like, name)
    if classes is not None:
        keywords["metadata"]["classes"] = list(classes)
        keywords["features"] = {"index": range(len(classes)), "class": list(classes)}
        keywords["colormap"] = colours_of(len(classes))
    return shown, keywords, "labels"


def placed_like(like: Any, name: str) -> dict[str, Any]:  # noqa: ANN401
    """Return the keywords of a layer that has the position and scale of another."""
    axes = slice(-min(3, like.data.ndim), None)
    return {
        "name": name,
        "scale": like.scale[axes],
        "translate": like.translate[axes],
        "units": None if like.units is None else like.units[axes],
        "metadata": {SPACING: like.metadata.get(SPACING)},
    }


def as_layer(array: NDArray[Any], like: Any) -> NDArray[Any]:  # noqa: ANN401
    """Return an array (Z, Y, X) with as many axes as its image has, at most three."""
    found: NDArray[Any] = array[0] if like.data.ndim == 2 else array
    return found


def colours_of(count: int) -> dict[int | None, Any]:
    """Return the colour of each of `count` classes, as a mapping for napari."""
    palette = np.asarray(LABEL_COLOURS, float) / 255
    found: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    for value in range(1, count):
        found[value] = palette[(value - 1) % (len(palette) - 1) + 1]
    return found


def _units(layer: Any) -> Sequence[Any]:  # noqa: ANN401
    """Return the units of a layer as quantities."""
    return [1 * unit for unit in layer.units]

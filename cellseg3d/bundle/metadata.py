"""Write ``metadata.json``: a bundle's input, output, versions and use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.bundle.compose import Config, read_config
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.datasets.channels import unnamed

# MONAI checks a network with sizes that are multiples of this number. Others work too.
SIDE = 16
# What metadata say of a fact that nobody told.
NOT_STATED = "not stated"


def build_metadata(
    base: Mapping[str, Any],
    spec: InputSpec | Mapping[str, Any],
    facts: ModelFacts | Mapping[str, Any],
    name: str,
    title: str,
    modality: str = NOT_STATED,
) -> Config:
    """Return the metadata of a bundle.

    Parameters
    ----------
    base : mapping
        Entries that all bundles share: versions, authors, use.
    spec : InputSpec or mapping
        The network's input.
    facts : ModelFacts or mapping
        The classes and the spacing.
    name, title : str
        The bundle's name and one line about it.
    modality : str
        How the images are made, such as "electron microscopy".

    Returns
    -------
    dict
        What ``metadata.json`` holds.
    """
    shape = InputSpec.parse(spec if isinstance(spec, InputSpec) else dict(spec))
    known = ModelFacts.parse(facts)
    channels = {str(index): label for index, label in enumerate(known.classes)}
    seen = input_channels(shape, known.channels)
    classes = ", ".join(f"{index} {label}" for index, label in channels.items())
    return {
        **base,
        "name": name,
        "description": f"{title}; {shape.kind} input, {known.num_classes} classes",
        "label_classes": f"{classes}, 255 not annotated",
        "pred_classes": f"{known.num_classes} channels of logits: {classes}",
        **_image_classes(known),
        "spacing_um": list(known.spacing_um) if known.spacing_um else None,
        "network_data_format": {
            "inputs": {"image": _image(shape, modality, seen)},
            "outputs": {"pred": _prediction(shape, known, channels)},
        },
    }


def read_modality(bundle: Path) -> str:
    """Return how the images are made that a bundle is for, by its ``metadata.json``."""
    shapes = read_config(bundle / "configs" / "metadata.json").get(
        "network_data_format", {}
    )
    return str(shapes.get("inputs", {}).get("image", {}).get("modality", NOT_STATED))


def input_channels(spec: InputSpec, channels: Sequence[str]) -> list[str]:
    """Return the names of the channels of a network's input, in their order.

    They are the slices of the first channel of the image, then those of the second, and
    so on. The centre slice has the name of its channel, and others their distance.
    """
    names = list(channels)
    if len(names) != spec.image_channels or len(names) == 1:
        several = spec.image_channels > 1
        names = unnamed(spec.image_channels) if several else ["image"]
    places = range(-spec.context, spec.context + 1)
    if spec.image_channels == 1:
        return [names[0] if not place else f"slice {place:+d}" for place in places]
    return [
        name if not place else f"{name}, slice {place:+d}"
        for name in names
        for place in places
    ]


def _image_classes(facts: ModelFacts) -> Config:
    """Return what the image shows, if it has several channels."""
    if len(facts.channels) < 2:
        return {}
    listed = ", ".join(facts.channels)
    return {"image_classes": f"{len(facts.channels)} channels: {listed}"}


def _image(spec: InputSpec, modality: str, names: Sequence[str]) -> Config:
    return {
        "type": "image",
        "format": "magnitude",
        "modality": modality,
        "num_channels": spec.in_channels,
        "spatial_shape": [f"{SIDE}*n"] * spec.spatial_dims,
        "dtype": "float32",
        "value_range": [-3, 3],
        "is_patch_data": spec.spatial_dims == 3,
        "channel_def": {str(index): name for index, name in enumerate(names)},
    }


def _prediction(
    spec: InputSpec, facts: ModelFacts, channels: Mapping[str, str]
) -> Config:
    return {
        "type": "image",
        "format": "segmentation",
        "num_channels": facts.num_classes,
        "spatial_shape": [f"{SIDE}*n"] * spec.spatial_dims,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": spec.spatial_dims == 3,
        "channel_def": dict(channels),
    }

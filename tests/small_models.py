"""Small networks with settled statistics, as trained models for tests of prediction."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.models.unet import build_network


@dataclass
class SmallModel:
    """A trained model without a bundle."""

    network: nn.Module
    spec: InputSpec
    classes: tuple[str, ...]
    window: dict[str, Any] = field(default_factory=dict)
    intensity: IntensityScale = field(default_factory=IntensityScale)
    spacing_um: Spacing | None = None
    name: str = "small"
    path: Path = Path("small")
    sha256: str = "0" * 64
    warnings: tuple[str, ...] = ()
    members: tuple[Any, ...] = ()
    resampled: bool = False
    adapts: bool = False
    likeness: None = None
    decoder: None = None
    spacing_told: bool = False
    label_meaning: dict[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    description: str = ""
    confidence: Any = None


def small_model(
    dims=3,
    context=0,
    name="unet",
    classes=2,
    norm="batch",
    seed=0,
    channels=(),
    **window,
):
    """A network of two levels whose normalisation has statistics worth the name."""
    count = max(1, len(channels))
    spec = InputSpec(dims, (16,) * dims, context=context, image_channels=count)
    torch.manual_seed(seed)
    options = {"features": (8, 8, 8, 16, 16, 8)}
    if name != "basic_unet":
        options = {"channels": (8, 16)}
    network = build_network(name, spec, classes, norm=norm, **options)
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    names = tuple(f"class{index}" for index in range(classes))
    return SmallModel(
        network.eval(), spec, names, dict(window), channels=tuple(channels)
    )


def noise_volume(shape, seed=0, spacing=(0.1, 0.1, 0.1)):
    """Smooth enough that a network has something to say, float32."""
    values = np.random.default_rng(seed).normal(100, 20, shape)
    return Volume(values.astype(np.float32), Spacing(*spacing))


def whole_pass(model, volume):
    """Logits (K, Z, Y, X) of one float32 pass over the whole volume, by torch alone."""
    offset, factor = model.intensity.measure(volume)
    image = model.intensity.apply(volume.read(), offset, factor)
    with torch.inference_mode():
        if model.spec.spatial_dims == 3:
            whole = torch.from_numpy(image if image.ndim == 4 else image[None])
            return model.network(whole[None])[0].numpy()
        axis = "zyx".index(model.spec.axis)
        k = model.spec.context
        parts = image if image.ndim == 4 else image[None]
        front = np.moveaxis(parts, axis + 1, 1)
        # Slices that are smaller than those of the training are mirrored, as there.
        grown = [
            max(0, least - side)
            for least, side in zip(model.spec.patch_shape, front.shape[2:], strict=True)
        ]
        pads = [(more // 2, more - more // 2) for more in grown]
        padded = np.pad(front, [(0, 0), (0, 0), *pads], mode="reflect")
        padded = np.pad(padded, [(0, 0), (k, k), (0, 0), (0, 0)], mode="edge")
        answers = []
        for n in range(front.shape[1]):
            # All slices of the first channel, then those of the second.
            stack = padded[:, n : n + 2 * k + 1].reshape(1, -1, *padded.shape[2:])
            answers.append(model.network(torch.from_numpy(stack))[0])
        found = torch.stack(answers, 1).numpy()
        for dim, (before, _) in enumerate(pads):
            side = front.shape[2 + dim]
            found = found.take(np.arange(before, before + side), axis=2 + dim)
        return np.moveaxis(found, 1, axis + 1)

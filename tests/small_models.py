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
    description: str = ""


def small_model(
    dims=3, context=0, name="unet", classes=2, norm="batch", seed=0, **window
):
    """A network of two levels whose normalisation has statistics worth the name."""
    spec = InputSpec(dims, (16,) * dims, context=context)
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
    return SmallModel(network.eval(), spec, names, dict(window))


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
            return model.network(torch.from_numpy(image)[None, None])[0].numpy()
        axis = "zyx".index(model.spec.axis)
        k = model.spec.context
        front = np.moveaxis(image, axis, 0)
        # Slices that are smaller than those of the training are mirrored, as there.
        grown = [
            max(0, least - side)
            for least, side in zip(model.spec.patch_shape, front.shape[1:], strict=True)
        ]
        pads = [(more // 2, more - more // 2) for more in grown]
        padded = np.pad(front, [(0, 0), *pads], mode="reflect")
        padded = np.pad(padded, [(k, k), (0, 0), (0, 0)], mode="edge")
        answers = [
            model.network(torch.from_numpy(padded[None, n : n + 2 * k + 1]))[0]
            for n in range(len(front))
        ]
        found = torch.stack(answers, 1).numpy()
        for dim, (before, _) in enumerate(pads):
            side = front.shape[1 + dim]
            found = found.take(np.arange(before, before + side), axis=2 + dim)
        return np.moveaxis(found, 1, axis + 1)

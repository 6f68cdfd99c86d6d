"""Adapt a network's normalisation to a volume unlike those it was trained on.

Batch normalisation subtracts the mean of each feature and divides by its standard
deviation, both measured in training. On a volume with other noise, contrast or stain
the features have another mean and deviation. They are measured again here, on windows
spread over the volume, without labels and without changing any weight (adaptive batch
normalisation, doi:10.1016/j.patcog.2018.03.005).
"""

import copy
import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cellseg3d.core.input_spec import InputSpec
from cellseg3d.prediction.field import Field, MirroredField
from cellseg3d.prediction.trial import trial_windows

# Where windows lie, as shares of the sides: in the middle and in eight corners.
PLACES = ((0.5, 0.5, 0.5), *itertools.product((0.2, 0.8), repeat=3))
# Voxels that run together.
BATCH = 2**20
# How much the volume's statistics count; those of the training count for the rest.
STRENGTH = 0.75
# What a layer measures of its features.
STATISTICS = ("running_mean", "running_var")


def adapted(
    network: nn.Module,
    windows: Sequence[Tensor],
    *,
    strength: float = STRENGTH,
    device: torch.device | None = None,
) -> nn.Module:
    """Return a copy of a network whose normalisation fits a volume.

    Parameters
    ----------
    network : Module
        A network in float32 and evaluation mode; it is not changed.
    windows : sequence of tensor
        Windows of the volume, float32, each (1, C, ...); at least one.
    strength : float
        The weight of the volume's statistics, in [0, 1]. Those of the training have
        the rest.
    device : torch.device, optional
        Where to compute. The copy lies on the device of `network`.

    Returns
    -------
    Module
        The copy, in evaluation mode. A network without batch normalisation is returned
        as it is.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.BatchNorm2d(1)).eval()
    >>> bright = 5 + torch.randn(1, 1, 64, 64, generator=torch.manual_seed(0))
    >>> float(network(bright).mean()) > 4
    True
    >>> abs(float(adapted(network, [bright])(bright).mean())) < 1e-5
    True
    """
    if not layers_of(network):
        return network
    place = next(network.parameters()).device
    changed = copy.deepcopy(network).to(device or place)
    layers = layers_of(changed)
    before = [
        {name: getattr(layer, name).clone() for name in STATISTICS} for layer in layers
    ]
    for layer in layers:
        layer.reset_running_stats()
        # The mean over all batches, each counting the same.
        layer.momentum = None
        layer.train()
    with torch.inference_mode():
        for batch in batches(windows):
            changed(batch.to(device or place))
    with torch.no_grad():
        for layer, old in zip(layers, before, strict=True):
            for name, tensor in old.items():
                getattr(layer, name).mul_(strength).add_(tensor, alpha=1 - strength)
    return changed.to(place).eval()


def windows_for(
    field: Field, network: nn.Module, spec: InputSpec, axes: str
) -> list[Tensor]:
    """Return windows as large as training samples, spread over a volume.

    The parameters are those of `prediction.trial.prepare_for`.
    """
    side = max(spec.patch_shape)
    if spec.spatial_dims == 3:
        return trial_windows(field, network, spec, axes, PLACES, side)
    found = []
    for axis in axes:
        seen = MirroredField(field, spec.seen_shape(field.shape, axis))
        found += trial_windows(seen, network, spec, axis, PLACES, side)
    return found


def batches(windows: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield windows of one shape together, about `BATCH` voxels at a time.

    As in training, the deviation is that of several places. A single window may show
    one structure only.
    """
    shapes = dict.fromkeys(window.shape for window in windows)
    for shape in shapes:
        same = [window for window in windows if window.shape == shape]
        count = max(1, BATCH // math.prod(shape))
        # Batches of nearly one length, so that none holds a single window.
        parts = math.ceil(len(same) / count)
        for part in range(parts):
            yield torch.cat(same[part::parts])


def layers_of(network: nn.Module) -> list[_BatchNorm]:
    """Return the layers of a network that normalise with statistics of the training."""
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]

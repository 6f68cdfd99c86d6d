"""Refuse a loss that cannot handle voxels without annotation."""

import torch
from torch import nn

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.ignore import IGNORE


def check_ignores(loss: nn.Module, num_classes: int, spatial_dims: int) -> None:
    """Raise an error if a loss fails on the label 255; losses of this package pass.

    The label 255 means that a voxel is not annotated, or that it lies outside of the
    volume, which happens when a training patch passes a border.

    Parameters
    ----------
    loss : Module
        The loss, which takes logits (N, K, ...) and labels (N, 1, ...).
    num_classes, spatial_dims : int
        Number of classes and of spatial dimensions of the logits.

    Raises
    ------
    ConfigError
        If the loss can be computed without the label 255 and fails with it.
    """
    kind = type(loss)
    if kind.__module__.startswith("cellseg3d."):
        return
    logits = torch.zeros(1, num_classes, *[4] * spatial_dims)
    label = torch.zeros(1, 1, *[4] * spatial_dims)
    try:
        loss(logits, label)
    except Exception:
        return
    label.view(-1)[0] = IGNORE
    try:
        loss(logits, label)
    except Exception as error:
        message = (
            f"loss {kind.__module__}.{kind.__name__}: this loss does not know the "
            f"label {IGNORE} (not annotated, or outside of the volume); use "
            "cellseg3d.models.losses.DiceCELoss"
        )
        raise ConfigError(message) from error

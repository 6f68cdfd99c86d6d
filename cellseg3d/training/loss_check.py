"""Refuse a loss that cannot leave out voxels that nobody has annotated."""

import torch
from torch import nn

from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.labels import IGNORE


def check_ignores(loss: nn.Module, num_classes: int, spatial_dims: int) -> None:
    """Raise an error if a loss fails on the label 255; losses of this package pass.

    The label stands for voxels that are not annotated, and for those beyond the border
    of a volume, which a training crop may reach at any step.

    Parameters
    ----------
    loss : Module
        Called as in a training: with logits (N, K, ...) and labels (N, 1, ...).
    num_classes, spatial_dims : int

    Raises
    ------
    ConfigError
        If it can compute without the label 255 and not with it.
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
            f"label {IGNORE} (not annotated / padding); use "
            "cellseg3d.models.losses.DiceCELoss"
        )
        raise ConfigError(message) from error

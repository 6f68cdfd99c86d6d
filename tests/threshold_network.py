"""A network whose labels bfloat16 changes by a known share, and volumes to show it."""

import numpy as np
import torch
from torch import nn

from cellseg3d.models.hardware import Hardware

SIDE = 64


class Threshold(nn.Module):
    """Label 1 where the intensity is above a threshold, by one convolution."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 1)
        self.total_stride = (1, 1, 1)
        with torch.no_grad():
            self.conv.weight[:] = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1)
            self.conv.bias[:] = torch.tensor([threshold, 0.0])

    def forward(self, image):
        return self.conv(image)


def values_with(share):
    """Return voxels far from 1, but a share just above, which bfloat16 makes 1."""
    rng = np.random.default_rng(0)
    shape = (SIDE,) * 3
    values = np.where(rng.random(shape) < 0.5, 0.25, 2.0).astype(np.float32)
    close = rng.random(shape) < share
    values[close] = 1 + 2.0**-10
    return values


def pick_bfloat16(monkeypatch):
    """Choose as on a processor that multiplies it, whatever runs the tests."""

    def choose(device, precision):
        del device
        number = "float32" if precision == "float32" else "bfloat16"
        return Hardware(torch.device("cpu"), number, "the test says so")

    for module in ("trial", "inferer"):
        monkeypatch.setattr(f"cellseg3d.prediction.{module}.choose_hardware", choose)

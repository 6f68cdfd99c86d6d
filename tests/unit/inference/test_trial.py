"""The trial that decides between bfloat16 and float32 on the volume itself."""

import numpy as np
import pytest
import torch
from torch import nn

from cellseg3d.core.input_spec import InputSpec
from cellseg3d.inference.field import ArrayField
from cellseg3d.inference.hardware import Hardware
from cellseg3d.inference.trial import ALLOWED, MARGIN, prepare_for

SPEC = InputSpec(3, (64, 64, 64))


class Threshold(nn.Module):
    """Label 1 where the intensity is above a threshold, by one convolution."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 1)
        self.total_stride = (1, 1, 1)
        with torch.no_grad():
            self.conv.weight[:] = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1)
            self.conv.bias[:] = torch.tensor([threshold, 0.0])

    def forward(self, image):
        return self.conv(image)


@pytest.fixture(autouse=True)
def _bfloat16_is_picked(monkeypatch):
    """As on a processor that multiplies it, whatever runs the tests."""

    def choose(device, precision):
        del device
        number = "float32" if precision == "float32" else "bfloat16"
        return Hardware(torch.device("cpu"), number, "the test says so")

    monkeypatch.setattr("cellseg3d.inference.engine.choose_hardware", choose)


def field_with(share: float) -> ArrayField:
    """Return voxels far from 1, but a share just above, which bfloat16 makes 1."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random((1, 64, 64, 64)) < 0.5, 0.25, 2.0).astype(np.float32)
    close = rng.random(values.shape) < share
    values[close] = 1 + 2.0**-10
    return ArrayField(values)


def test_float32_is_taken_when_bfloat16_changes_too_many_labels():
    engine = prepare_for(field_with(1e-2), Threshold(1.0).eval(), SPEC, "z")

    assert engine.hardware.precision == "float32"
    assert "trial changed 1.0e-02" in engine.hardware.reason
    assert f"{ALLOWED / MARGIN:.1e} are allowed" in engine.hardware.reason


def test_bfloat16_is_taken_when_few_labels_change():
    engine = prepare_for(field_with(2e-5), Threshold(1.0).eval(), SPEC, "z")

    assert engine.hardware.precision == "bfloat16"
    assert "trial changed" in engine.hardware.reason
    assert "changed 0.0e+00" not in engine.hardware.reason


def test_every_voxel_counts_whatever_its_label():
    """The share is of all voxels: background that turns into cell is a change."""
    field = field_with(0)
    field.array_czyx[:] = 0.25
    field.array_czyx[0, :, :, :2] = 1 + 2.0**-10

    engine = prepare_for(field, Threshold(1.0).eval(), SPEC, "z")

    assert f"trial changed {2 / 64:.1e}" in engine.hardware.reason

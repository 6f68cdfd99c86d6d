"""The trial that decides between bfloat16 and float32 on the volume itself."""

import numpy as np
import pytest
import torch
from processor import needs_bfloat16
from threshold_network import SIDE, Threshold, pick_bfloat16, values_with

from cellseg3d.core.input_spec import InputSpec
from cellseg3d.prediction.field import ArrayField
from cellseg3d.prediction.inferer import VolumeInferer
from cellseg3d.prediction.trial import ALLOWED, MARGIN, prepare_for

pytestmark = needs_bfloat16
SPEC = InputSpec(3, (SIDE,) * 3)


@pytest.fixture(autouse=True)
def _bfloat16_is_picked(monkeypatch):
    pick_bfloat16(monkeypatch)


def field_with(share: float) -> ArrayField:
    return ArrayField(values_with(share)[None])


def test_float32_is_taken_when_bfloat16_changes_too_many_labels():
    network = prepare_for(field_with(1e-2), Threshold(1.0).eval(), SPEC, "z")

    assert network.hardware.precision == "float32"
    assert "trial bfloat16 changed 1.0e-02" in network.hardware.reason
    assert f"at most {ALLOWED / MARGIN:.1e} may change" in network.hardware.reason


def test_bfloat16_is_taken_when_few_labels_change():
    network = prepare_for(field_with(2e-5), Threshold(1.0).eval(), SPEC, "z")

    assert network.hardware.precision == "bfloat16"
    assert "trial bfloat16 changed" in network.hardware.reason
    assert "changed 0.0e+00" not in network.hardware.reason


def test_every_voxel_counts_whatever_its_label():
    """The share is of all voxels: background that turns into cell is a change."""
    field = field_with(0)
    field.array_czyx[:] = 0.25
    field.array_czyx[0, :, :, :2] = 1 + 2.0**-10

    network = prepare_for(field, Threshold(1.0).eval(), SPEC, "z")

    assert f"trial bfloat16 changed {2 / 64:.1e}" in network.hardware.reason


def test_an_inferer_tries_each_volume_of_a_batch():
    """The first volume would allow bfloat16, the second does not."""
    shares = (0.0, 1e-2)
    volumes = np.stack([values_with(share)[None] for share in shares])
    network = Threshold(1.0).eval()

    tried, untried = (
        VolumeInferer(SPEC, trial=trial)(torch.from_numpy(volumes), network).argmax(1)
        for trial in (True, False)
    )

    expected = volumes[:, 0] > 1
    np.testing.assert_array_equal(tried.numpy(), expected)
    changed = (untried.numpy() != expected).mean((1, 2, 3))
    np.testing.assert_allclose(changed, shares, rtol=0.05)

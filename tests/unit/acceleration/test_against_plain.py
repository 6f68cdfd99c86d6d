"""An accelerated network answers as the plain one, which is torch alone."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_models import noise_volume, small_model

from cellseg3d.acceleration.prepare import AcceleratedNetwork, prepare
from cellseg3d.cli.main import main
from cellseg3d.core.errors import ConfigError
from cellseg3d.models.hardware import choose_hardware
from cellseg3d.models.prepared import PlainNetwork
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.prediction.setup import set_up

FLOAT32 = choose_hardware("cpu", "float32")
KINDS = {"2D": (2, 0), "2.5D": (2, 2), "3D": (3, 0)}


def answer(network, image, keep, planes):
    """Return the whole answer (K, n, h, w) to a window, and what was read."""
    seen = []

    def read(low, high):
        seen.append((low, high))
        return image[:, low:high]

    parts = list(network.logits(read, tuple(image.shape[1:]), keep, planes))
    assert parts[0][0] == keep[0].start
    return torch.cat([part for _, part in parts], 1), seen


@pytest.mark.parametrize("planes", [1, 3, 16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["unet", "residual_unet", "basic_unet"])
def test_both_answer_alike(name, kind, planes):
    dims, context = KINDS[kind]
    model = small_model(dims, context, name=name, classes=3)
    image = torch.randn(1, 16, 32, 48, generator=torch.Generator().manual_seed(1))
    along = slice(context, 16 - context) if dims == 2 else slice(3, 14)
    keep = (along, slice(4, 29), slice(0, 40))

    expected, _ = answer(
        PlainNetwork(model.network, model.spec, FLOAT32), image, keep, planes
    )
    fast = prepare(model.network, model.spec, FLOAT32)
    found, seen = answer(fast, image, keep, planes)

    assert expected.shape == (3, along.stop - along.start, 25, 40)
    # Rounding of sums in another order, and of folded norms.
    bound = 2e-5 * float(expected.abs().max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
    assert max(high for _, high in seen) <= 16


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_the_plain_network(kind):
    dims, context = KINDS[kind]
    model = small_model(dims, context, core=16, halo=16, axes="zx")
    volume = noise_volume((19, 30, 41))

    plain = segment(volume, model, SegmentOptions(acceleration="off"))
    fast = segment(volume, model, SegmentOptions(precision="float32"))

    assert plain.provenance["sources"][0]["acceleration"] == "off"
    changed = (plain.labels.array != fast.labels.array).mean()
    assert changed < 5e-5
    assert 0.02 < plain.labels.array.mean() < 0.98


def test_off_leaves_nothing_of_the_acceleration():
    model = small_model(core=16, halo=8)
    volume = noise_volume((16, 16, 16))

    plain, fast = (
        set_up(volume, [model], SegmentOptions(acceleration=word)).sources[0].network
        for word in ("off", "auto")
    )

    assert isinstance(plain, PlainNetwork)
    assert isinstance(fast, AcceleratedNetwork)
    with pytest.raises(ConfigError, match="parts of the acceleration"):
        SegmentOptions(acceleration="off", precision="int8")
    with pytest.raises(ConfigError, match="expected auto or off"):
        SegmentOptions(acceleration="on")


def test_the_command_line_reads_the_variable(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CELLSEG3D_ACCELERATION", "slow")

    code = main(["predict", "a.tif", "--bundle", "b", "--out", str(tmp_path)])

    assert code == 3
    assert "acceleration 'slow'; expected auto or off" in capsys.readouterr().err


UNTOUCHED = """
import gc, os
before = dict(os.environ), gc.get_freeze_count(), gc.isenabled(), gc.get_threshold()
from small_models import noise_volume, small_model
from cellseg3d.prediction.segment import segment
segment(noise_volume((16, 16, 16)), small_model(core=16, halo=8))
after = dict(os.environ), gc.get_freeze_count(), gc.isenabled(), gc.get_threshold()
changed = {key for key in after[0] if before[0].get(key) != after[0][key]}
print(sorted(key for key in changed if not key.startswith(("KMP_", "TORCHINDUCTOR"))))
print(before[1:] == after[1:])
"""


def test_a_prediction_changes_nothing_global_in_its_process():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", UNTOUCHED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split("\n")[:2] == ["[]", "True"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_without_onednn_answers_too(kind, monkeypatch):
    """As on a GPU, where its calls are not merged."""
    dims, context = KINDS[kind]
    model = small_model(dims, context, core=16, halo=16)
    volume = noise_volume((19, 30, 41))
    options = SegmentOptions(precision="float32")
    expected = segment(volume, model, options).labels.array

    monkeypatch.setattr("cellseg3d.acceleration.prepare.has_onednn", lambda: False)
    found = segment(volume, model, options).labels.array

    assert (found != expected).mean() < 5e-5

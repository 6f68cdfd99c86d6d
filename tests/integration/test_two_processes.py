"""Two processes train as one with twice the batch: through torchrun, on the CPU."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.models.checkpoint import load_weights

# Batch statistics are of each process' own samples, and a Dice over a whole batch is
# no mean of two: with norms and losses of single samples the two runs must agree.
SETTINGS = [
    "network_def::channels=[4,8]",
    "network_def::norm=instance",
    "loss={_target_: cellseg3d.models.losses.DiceCELoss, batch: false}",
    "spec::patch_shape=[16,16]",
    "train::dataset::samples=16",
    "val_interval=2",
]


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for name in ("one", "two"):
        label = np.zeros((8, 20, 24), np.uint8)
        label[:, 5:15, 6:18] = 1
        image = (label + random.normal(0, 0.2, label.shape)).astype(np.float32)
        spacing = Spacing(0.05, 0.05, 0.05)
        place = tmp_path / "data"
        write_volume(place / "images" / f"{name}.mrc", Volume(image, spacing))
        write_labels(place / "labels" / f"{name}.tif", Volume(label, spacing))
    return tmp_path / "data"


def train(folder, out, batch, launcher):
    words = ["cellseg3d.cli", "train", "--bundle", "cell_tomo_unet2d", "--data"]
    words += [str(folder), "--out", str(out), "--device", "cpu", "--epochs", "2"]
    words += ["--precision", "float32", "--no-calibrate", "--quiet"]
    for setting in [*SETTINGS, f"train::dataloader::batch_size={batch}"]:
        words += ["--set", setting]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((out / "run.json").read_text())
    return done.stdout, record


def test_two_processes_follow_the_loss_of_one_with_twice_the_batch(folder, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]

    said, two = train(folder, tmp_path / "two", 2, torchrun)
    _, one = train(folder, tmp_path / "one", 4, [])

    losses = [[row["loss"] for row in record["history"]] for record in (one, two)]
    assert said.count("trained 8 steps") == 1
    assert one["iteration"] == two["iteration"] == 8
    assert losses[0][1] < losses[0][0] - 0.01
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert two["best_score"] == pytest.approx(one["best_score"], abs=1e-4)
    weights = [
        load_weights(tmp_path / run / "models" / "last.safetensors").tensors
        for run in ("one", "two")
    ]
    for name, value in weights[0].items():
        # A bias before a norm has no gradient but rounding, which Adam makes large.
        if value.ndim > 1:
            np.testing.assert_allclose(weights[1][name], value, rtol=0, atol=1e-4)

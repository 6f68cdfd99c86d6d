"""A run folder made before the modules were moved still predicts, scores, trains on.

``fixtures/run_before_move`` was trained by the code of commit 52354d0 on the volumes
that `two_balls.write_two_balls` writes (the data's place, elsewhere then, was set to
``data`` in its files; logs and pictures were left out)::

    cellseg3d train --bundle cell_tomo_unet3d --data data/datalist.json --out run \
        --epochs 16 --seed 0 --device cpu --precision float32 \
        --set network_def::name=residual_unet --set 'network_def::channels=[4,8]' \
        --set train::dataset::samples=16 --set val_interval=8 \
        --set intensity::mode=range --set intensity::lower=60 \
        --set intensity::upper=180 --set average::decay=0.9 --set optimizer::lr=0.01

``expected_labels.npz`` holds what the same code predicts for volume 7 in float32; no
probability lies within 0.002 of one half, so that no rounding changes a label.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from two_balls import SIDE, two_balls, write_mrc, write_two_balls

from cellseg3d.bundle.compose import read_config
from cellseg3d.cli.main import main
from cellseg3d.io.registry import read_labels

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_before_move"
# What the code of then measured on its own validation and test volume.
DICE_TEST = 0.9758739537173806
LOSSES_GOING_ON = (0.07102675037458539, 0.06442477460950613)


@pytest.fixture
def run(tmp_path):
    """The run, with its data beside it and the volume to predict."""
    place = tmp_path / "run"
    shutil.copytree(FIXTURE, place)
    datalist = write_two_balls(tmp_path / "data")
    for name in ("train", "evaluate"):
        path = place / "configs" / f"{name}.json"
        text = path.read_text(encoding="utf-8")
        said = json.dumps(str(datalist))
        path.write_text(text.replace('"data/datalist.json"', said), encoding="utf-8")
    (tmp_path / "unseen").mkdir()
    write_mrc(tmp_path / "unseen" / "unseen.mrc", two_balls(7)[0])
    return place


def expected_labels():
    packed = np.load(FIXTURE / "expected_labels.npz")["ball"]
    return np.unpackbits(packed).reshape(SIDE, SIDE, SIDE)


def monai_bundle(run, run_id, file, **overrides):
    """Run MONAI's own command line in the run's folder."""
    words = ["-m", "monai.bundle", "run", run_id, "--config_file", f"configs/{file}"]
    for key, value in overrides.items():
        words += [f"--{key}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=run,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_it_predicts_the_labels_that_it_predicted_then(run, tmp_path):
    volume, out = tmp_path / "unseen" / "unseen.mrc", tmp_path / "out"
    words = ["predict", str(volume), "--bundle", str(run), "--out", str(out)]

    code = main([*words, "--device", "cpu", "--precision", "float32"])

    assert code == 0
    labels = read_labels(out / "unseen_labels.mrc").read()
    assert expected_labels().sum() == 1912
    np.testing.assert_array_equal(labels, expected_labels())


def test_monais_own_command_line_predicts_the_same_labels(run, tmp_path):
    unseen = tmp_path / "unseen"

    monai_bundle(
        run,
        "inferring",
        "inference.json",
        dataset_dir=unseen,
        device="cpu",
        precision="float32",
    )

    labels = read_labels(run / "eval" / "unseen_labels.nii.gz").read()
    np.testing.assert_array_equal(labels, expected_labels())


def test_monais_own_command_line_scores_as_then(run):
    monai_bundle(run, "evaluating", "evaluate.json", precision="float32")

    scores = json.loads((run / "evaluation.json").read_text())
    assert scores["volumes"]["c"]["ball"]["dice"] == pytest.approx(DICE_TEST, abs=1e-3)


def test_its_training_goes_on_where_it_stopped(run):
    words = ["train", "--resume", "--out", str(run), "--epochs", "18", "--quiet"]

    code = main([*words, "--no-calibrate"])

    assert code == 0
    history = json.loads((run / "history.json").read_text())
    assert [row["iteration"] for row in history[-3:]] == [128, 136, 144]
    losses = [row["loss"] for row in history[-2:]]
    # Another processor adds in another order.
    assert losses == pytest.approx(LOSSES_GOING_ON, rel=0.02)
    record = read_config(run / "run.json")
    assert record["state"] == "completed"

"""Trained networks become one bundle, weighed on what none of them has trained on."""

import json
import shutil

import numpy as np
import pytest
import torch

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.windows import read_windows
from cellseg3d.cli.main import main
from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.io.registry import open_volume, read_labels
from cellseg3d.models.checkpoint import load_weights, save_weights
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.training.combine_bundles import CombineOptions, combine_bundles

FLOAT32 = {"precision": "float32", "probs": True}
CLASSES = 3


TINY = (
    "train::dataset::samples=16",
    "train::dataloader::batch_size=8",
    "network_def::channels=[8, 16]",
)


def trained(kind, data, out, *more):
    """A run of four epochs, as a user asks for it."""
    settings = [word for text in TINY for word in ("--set", text)]
    words = ["train", "--bundle", f"cell_tomo_{kind}", "--data", str(data)]
    words += ["--out", str(out), "--epochs", "4", "--device", "cpu", "--quiet"]
    assert main([*words, "--no-calibrate", *settings, *more]) == 0
    return out


@pytest.fixture(scope="module")
def flat(balls, tmp_path_factory):
    """A 2.5D network whose axes were weighed after its training."""
    out = tmp_path_factory.mktemp("flat") / "run"
    return trained("unet25d", balls, out, "--fit-axes", "zyx")


@pytest.fixture(scope="module")
def deep(balls, tmp_path_factory):
    """A 3D network of the same fold."""
    out = tmp_path_factory.mktemp("deep") / "run"
    return trained("unet3d", balls, out, "--set", "spec::patch_shape=[16, 16, 16]")


def spoilt(run, folder):
    """A copy of a run whose network says the same class everywhere."""
    shutil.copytree(run, folder)
    path = folder / "models" / "model.safetensors"
    weights = load_weights(path)
    blank = {name: torch.zeros_like(value) for name, value in weights.tensors.items()}
    save_weights(path, blank, weights.metadata)
    return folder


def weights_of(folder):
    metadata = read_config(folder / "configs" / "metadata.json")
    return metadata["fusion"]


def test_a_training_ends_with_weighed_axes(flat, balls):
    record = json.loads((flat / "run.json").read_text())
    window = read_windows(flat)[""]
    model = load_model(flat)
    volume = open_volume(balls.parent / "ball0.mrc")

    fused = segment(volume, model, SegmentOptions(**FLOAT32)).probs

    found = record["fusion"]
    assert window["axes"] == "zyx"
    assert set(window["fusion"]) == {"z", "y", "x"}
    assert list(found["weights"]) == ["axis z", "axis y", "axis x"]
    assert found["volumes"] == record["data"]["validation"]
    assert window["fusion_gain"] == pytest.approx(found["dice"] - found["dice_equal"])
    assert found["gain"] > -0.01
    rows = np.array([window["fusion"][axis] for axis in "zyx"])
    parts = [
        segment(volume, model, SegmentOptions(axes=axis, **FLOAT32)).probs
        for axis in "zyx"
    ]
    mixed = np.einsum("sk,skzyx->kzyx", rows, np.stack(parts))
    np.testing.assert_allclose(fused, mixed / mixed.sum(0), atol=1e-4)


def test_runs_become_one_bundle_that_predicts(flat, deep, balls, tmp_path, capsys):
    out = tmp_path / "fused"
    image = balls.parent / "ball0.mrc"

    assert main(["bundle", "combine", str(out), str(flat), str(deep)]) == 0

    said = capsys.readouterr().out
    model = load_model(out)
    assert [member.name for member in model.members] == list(read_windows(out))
    assert weights_of(out)["sentence"] in said
    assert weights_of(out)["volumes"] == ["ball0"]
    assert "intended for research" in (out / "docs" / "README.md").read_text()
    words = ["predict", str(image), "--bundle", str(out), "--out", str(tmp_path)]
    assert main([*words, "--uncertainty", "--format", ".tif"]) == 0
    labels = read_labels(tmp_path / "ball0_labels.tif").read()
    expected = segment(open_volume(image), model).labels.array
    np.testing.assert_array_equal(labels, expected)
    assert (tmp_path / "ball0_uncertainty.tif").exists()


def test_a_network_that_does_not_help_gets_no_weight(flat, deep, tmp_path):
    useless = spoilt(deep, tmp_path / "useless")

    found = combine_bundles([flat, useless], tmp_path / "out", CombineOptions(axes="z"))

    rows = list(found["weights"].values())
    assert found["sentence"].startswith("cell_tomo_unet25d along z alone is as good")
    assert rows[1] == [0.0] * CLASSES
    assert min(rows[0]) > 0


def test_without_a_fit_all_sources_count_alike(flat, deep, balls, tmp_path):
    out = tmp_path / "out"
    volume = open_volume(balls.parent / "ball0.mrc")

    assert combine_bundles([flat, deep], out, CombineOptions(fit=False)) == {}

    fused = segment(volume, load_model(out), SegmentOptions(**FLOAT32)).probs
    together = segment(
        volume,
        [load_model(flat), load_model(deep)],
        SegmentOptions(axes="zyx", **FLOAT32),
    ).probs
    np.testing.assert_allclose(fused, together, atol=1e-5)
    words = ["predict", volume.name, "--bundle", str(flat), "--bundle", str(deep)]
    words += ["--axes", "zyx", "--tta", "--uncertainty", "--precision", "float32"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "ball0_labels.json").read_text())["segmentation"]
    # Eight views of each axis, sixteen of the volume.
    assert len(record["sources"]) == 3 * 8 + 16
    assert len(record["models"]) == 2
    unsure = open_volume(tmp_path / "ball0_uncertainty.mrc").read()
    assert unsure.max() > unsure.min() >= 0


def test_a_volume_that_a_member_has_trained_on_weighs_nothing(flat, deep, tmp_path):
    with pytest.raises(ConfigError, match="was used to train some member"):
        combine_bundles([flat, deep], tmp_path / "out", CombineOptions(fold="1"))
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(flat, deep, tmp_path):
    (tmp_path / "precious").write_text("data")

    with pytest.raises(EnvironmentFault, match="not empty"):
        combine_bundles([flat, deep], tmp_path)

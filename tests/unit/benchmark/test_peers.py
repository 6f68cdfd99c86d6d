"""The opponents are run as they come, on the same folds."""

import itertools
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from monai.utils import set_determinism

from cellseg3d.benchmark import nnunet, nnunet_driver, stock_monai
from cellseg3d.benchmark.curve import curve_folders, read_snapshots
from cellseg3d.benchmark.dataset import write_fold
from cellseg3d.benchmark.nnunet import find_python, write_raw
from cellseg3d.benchmark.outcome import NotAvailable
from cellseg3d.benchmark.study import load_study
from cellseg3d.io.registry import read_labels


@pytest.fixture
def fold(study_path, tmp_path):
    dataset = load_study(study_path).datasets[0]
    return write_fold(dataset, dataset.open(tmp_path), 1, tmp_path / "folds")


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_stock_monai_learns_balls_within_its_budget(fold, tmp_path, kind, monkeypatch):
    # A clock on which every step takes a second, so that load does not matter.
    monkeypatch.setitem(stock_monai.CLOCKS, "wall", itertools.count().__next__)
    words = ["--fold", str(fold.path), "--kind", kind, "--out", str(tmp_path / "run")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI's own
            stock_monai.main(["train", *words, "--minutes", "0.5"])
            stock_monai.main(["predict", *words, "--cases", "b", "c"])
            stock_monai.main(["curve", *words, "--cases", "c"])
    finally:
        set_determinism(None)

    facts = json.loads((tmp_path / "run" / "trained.json").read_text())
    done = json.loads((tmp_path / "run" / "predicted.json").read_text())["volumes"]
    assert facts["steps"] == 29
    patch = 16 * 16 if kind == "2d" else 16**3
    assert facts["voxels"] == 29 * 4 * (2 if kind == "2d" else 1) * patch
    assert facts["parameters"] > 1e6
    assert set(done) == {"b", "c"}
    labels = read_labels(done["b"]["labels"]).read()
    truth = read_labels(fold.tests[0].label).read()
    assert labels.shape == truth.shape
    overlap = 2 * np.sum(labels * truth) / (labels.sum() + truth.sum())
    # Where background alone gives 0 and all foreground 0.05.
    assert overlap > 0.5
    kept = read_snapshots(tmp_path / "run" / "snapshots")
    assert [each.steps for each in kept] == [3, 7, 11, 14, 18, 22, 26, 29]
    last = read_labels(curve_folders(tmp_path / "run")[-1] / "c.tif").read()
    np.testing.assert_array_equal(last, read_labels(done["c"]["labels"]).read())


def test_the_patch_of_stock_monai_fits_thin_volumes():
    assert stock_monai.patch_shape([(20, 512, 512), (48, 100, 512)], "3d") == (
        16,
        96,
        96,
    )
    assert stock_monai.patch_shape([(20, 512, 512)], "2d") == (128, 128)


def test_nnunet_gets_the_same_voxels_classes_and_spacing(fold, tmp_path):
    write_raw(fold, tmp_path)

    raw = tmp_path / "raw" / "Dataset001_fold"
    described = json.loads((raw / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "ball": 1}
    assert described["numTraining"] == 1
    truth = read_labels(fold.training[0].label).read()
    written = tifffile.imread(raw / "labelsTr" / "case000.tif")
    np.testing.assert_array_equal(written, truth)
    spacing = json.loads((raw / "imagesTr" / "case000.json").read_text())["spacing"]
    assert spacing == pytest.approx([0.2, 0.1, 0.1])
    held = sorted(path.name for path in (tmp_path / "held_out").glob("*.tif"))
    assert held == ["case000_0000.tif", "case001_0000.tif"]


def test_voxels_that_nobody_annotated_are_nnunets_ignore(fold, tmp_path):
    label = fold.training[0].label
    values = tifffile.imread(label)
    values[:2] = 255
    tifffile.imwrite(label, values)

    write_raw(fold, tmp_path)

    raw = tmp_path / "raw" / "Dataset001_fold"
    described = json.loads((raw / "dataset.json").read_text())
    assert described["labels"]["ignore"] == 2
    assert (tifffile.imread(raw / "labelsTr" / "case000.tif")[:2] == 2).all()


def test_nnunets_learning_rate_follows_the_clock_to_nothing():
    group, seen = {"lr": 0.0}, []
    trainer = SimpleNamespace(
        network=SimpleNamespace(train=lambda: None),
        optimizer=SimpleNamespace(param_groups=[group]),
        initial_lr=0.01,
        dataloader_train=iter("abcdefghijklm"),
        train_step=lambda batch: seen.append((batch, group["lr"])),
    )

    kept = []

    steps = nnunet_driver.spend(
        trainer, 10, itertools.count().__next__, lambda *each: kept.append(each), 4
    )

    assert steps == 9
    assert [batch for batch, _ in seen] == list("abcdefghi")
    rates = [rate for _, rate in seen]
    assert rates == pytest.approx([0.01 * (1 - t / 10) ** 0.9 for t in range(1, 10)])
    assert kept == [(0.3, 2, 3), (0.5, 4, 5), (0.8, 7, 8), (1.0, 9, 10)]


def test_without_nnunet_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(nnunet.shutil, "which", lambda _: None)
    monkeypatch.setattr(nnunet, "find_spec", lambda _: None)

    with pytest.raises(NotAvailable, match="--nnunet-python"):
        find_python(None)
    with pytest.raises(NotAvailable, match="does not exist"):
        find_python(tmp_path / "python")


def test_the_python_beside_the_command_is_found(monkeypatch, tmp_path):
    (tmp_path / "python").touch()
    command = tmp_path / "nnUNetv2_train"
    monkeypatch.setattr(nnunet.shutil, "which", lambda _: str(command))

    assert find_python(None) == tmp_path / "python"

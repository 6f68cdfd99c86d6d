"""``cellseg3d evaluate --probabilities``: ROC, threshold and calibration of files."""

import json

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume

SPACING = Spacing(0.1, 0.1, 0.1)


def save_labels(path, array):
    path.parent.mkdir(exist_ok=True)
    write_labels(path, Volume(array.astype(np.uint8), SPACING))


def save_probs(path, array):
    path.parent.mkdir(exist_ok=True)
    write_volume(path, Volume(array, SPACING))


def evaluate(tmp_path, *words):
    out = tmp_path / "scores.json"

    code = main(["evaluate", *map(str, words), "--json", str(out)])

    return json.loads(out.read_text()) if code == 0 else code


@pytest.fixture
def ten(tmp_path):
    """Ten voxels stated at .95, nine of them right; ten at .85, five right: ECE .2."""
    truth = np.array([[[1] * 9 + [0], [1] * 5 + [0] * 5, [255] * 10]])
    probs = np.repeat(np.float32([0.95, 0.85, 0.1]), 10).reshape(1, 3, 10)
    save_labels(tmp_path / "t" / "a.tif", truth)
    save_labels(tmp_path / "p" / "a_labels.tif", probs > 0.5)
    save_probs(tmp_path / "p" / "a_prob_background.tif", 1 - probs)
    save_probs(tmp_path / "p" / "a_prob_cell.tif", probs)
    return tmp_path


def test_a_folder_of_predict_is_scored_class_by_class(ten, capsys):
    words = [ten / "p", ten / "t", "--probabilities", ten / "p"]

    scores = evaluate(ten, *words, "--classes", "background,cell")

    cell = scores["volumes"]["a"]["cell"]
    assert cell["ece"] == pytest.approx(0.2)
    # 14 true and 6 other voxels: 9 + 5 and 1 + 5 of them at .95 and .85.
    assert cell["auc"] == pytest.approx((9 * 5 + (9 * 1 + 5 * 5) / 2) / 84)
    assert cell["threshold"] == pytest.approx(0.85)
    assert cell["dice_at_threshold"] == pytest.approx(28 / 34)
    assert cell["brier"] == pytest.approx(
        (9 * 0.05**2 + 0.95**2 + 5 * 0.15**2 + 5 * 0.85**2) / 20
    )
    assert scores["statistics"]["cell"]["ece"]["n"] == 1
    curves = scores["curves"]["a"]["cell"]
    np.testing.assert_allclose(
        curves["reliability"], [[0.85, 0.5, 10], [0.95, 0.9, 10]], rtol=1e-6
    )
    assert curves["roc"][-1][1:] == [1.0, 1.0]
    assert scores["unmatched"]["predictions"] == []
    assert "threshold" in capsys.readouterr().out


def test_one_file_is_the_foreground_also_in_255ths(ten):
    probs = np.repeat(np.uint8([242, 217, 20]), 10).reshape(1, 3, 10)
    save_probs(ten / "q.tif", probs)
    one, two = ten / "p" / "a_labels.tif", ten / "t" / "a.tif"

    scores = evaluate(ten, one, two, "--probabilities", ten / "q.tif")

    assert scores["volumes"]["a"]["1"]["ece"] == pytest.approx(0.2, abs=0.002)


@pytest.mark.parametrize(
    ("place", "words"),
    [("none", "does not exist"), ("t", "holds no a_prob_CLASS")],
)
def test_missing_probabilities_are_named(ten, capsys, place, words):
    one, two = ten / "p" / "a_labels.tif", ten / "t" / "a.tif"

    assert evaluate(ten, one, two, "--probabilities", ten / place) == 2
    assert words in capsys.readouterr().err


def test_a_class_without_a_value_is_named(ten, capsys):
    save_probs(ten / "p" / "a_prob_nucleus.tif", np.zeros((1, 3, 10), np.float32))
    words = [ten / "p", ten / "t", "--probabilities", ten / "p"]

    assert evaluate(ten, *words, "--classes", "background,cell") == 2
    assert "no class is called 'nucleus'" in capsys.readouterr().err


def test_object_ids_beside_labels_are_scored_when_asked_for(ten):
    ids = np.array([[[1] * 9 + [0], [2] * 5 + [0] * 5, [0] * 10]])
    save_labels(ten / "p" / "a_objects.tif", ids)
    save_labels(ten / "t" / "a.tif", ids)

    as_ids = evaluate(ten, ten / "p", ten / "t", "--objects")

    assert as_ids["files"]["a"]["prediction"].endswith("a_objects.tif")
    assert as_ids["objects"]["a"]["foreground"]["pq"] == 1.0


def test_the_median_over_images_stands_below_the_mean(tmp_path, capsys):
    truth = np.ones((1, 4, 4))
    for name, right in (("a", 4), ("b", 4), ("c", 1)):
        found = np.zeros((1, 4, 4))
        found[:, :right] = 1
        save_labels(tmp_path / "p" / f"{name}.tif", found)
        save_labels(tmp_path / "t" / f"{name}.tif", truth)

    scores = evaluate(tmp_path, tmp_path / "p", tmp_path / "t")

    dice = scores["statistics"]["1"]["dice"]
    assert dice["median"] == 1.0
    assert dice["mean"] == pytest.approx((1 + 1 + 0.4) / 3)
    assert "median" in capsys.readouterr().out

"""Curves of trainings, and what they say about the end of a training."""

import itertools
import json

import pytest

from cellseg3d.benchmark.bundles import curve_bundle, predict_bundles, train_bundle
from cellseg3d.benchmark.curve import Keeper, read_snapshots, rise_of, trend_of
from cellseg3d.benchmark.dataset import write_fold
from cellseg3d.benchmark.study import Budget, Method, load_study
from cellseg3d.io.registry import read_labels


def curve(values):
    shares = [(number + 1) / len(values) for number in range(len(values))]
    return [
        {"share": share, "mean_dice": value}
        for share, value in zip(shares, values, strict=True)
    ]


@pytest.mark.parametrize(
    ("values", "trend"),
    [
        ([0.1, 0.6, 0.7, 0.80, 0.80, 0.81, 0.80, 0.81], "converged"),
        ([0.1, 0.2, 0.3, 0.40, 0.45, 0.50, 0.55, 0.60], "rising"),
        ([0.0, 0.0, 0.0, 0.01, 0.02, 0.02, 0.02, 0.03], "not begun"),
        ([0.5, 0.8], "unknown"),
        ([0.7, 0.8, 0.9, None, None, 0.8, None, 0.8], "unknown"),
        ([], "unknown"),
    ],
)
def test_the_last_half_of_the_curve_decides(values, trend):
    assert trend_of(curve(values)) == trend


def test_a_flat_curve_far_below_the_best_has_not_begun():
    flat = curve([0.15, 0.16, 0.17, 0.16, 0.16, 0.16, 0.16, 0.16])

    assert trend_of(flat) == "converged"
    assert trend_of(flat, 0.31) == "converged"
    assert trend_of(flat, 0.33) == "not begun"


def test_the_rise_is_that_of_the_line_through_the_last_half():
    assert rise_of(curve([0.9, 0.9, 0.9, 0.4, 0.5, 0.6, 0.7, 0.8])) == pytest.approx(
        0.4
    )


def test_weights_are_kept_at_equal_shares_and_their_time_is_not_counted(tmp_path):
    now = itertools.count()
    ticks = []

    def save(path):
        path.touch()
        for _ in range(100):  # writing takes long
            next(now)

    keeper = Keeper(tmp_path, 16, now.__next__, save)
    while keeper.step(len(ticks)):
        ticks.append(None)

    kept = read_snapshots(tmp_path)
    assert [each.spent_s for each in kept] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert [each.share for each in kept] == [n / 8 for n in range(1, 9)]
    assert [each.steps for each in kept] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert all(each.weights.exists() for each in kept)


@pytest.mark.slow  # trains for 3 s in a process of its own
def test_the_last_point_of_a_bundles_curve_is_its_model(study_path, tmp_path):
    text = study_path.read_text().replace(
        "tests: [a, [b, c]]", "tests: [a], validate: [b]"
    )
    study_path.write_text(text)
    dataset = load_study(study_path).datasets[0]
    fold = write_fold(dataset, dataset.open(tmp_path), 0, tmp_path / "folds")
    small = {"spec::patch_shape": [16, 16], "train::dataset::samples": 4}
    method = Method("2D", "train", "cell_tomo_unet2d", settings=small)

    trained = train_bundle(method, fold, Budget(0, 0.05, "cpu"), tmp_path)
    points = curve_bundle(tmp_path / "model", fold, tmp_path)

    assert [case.name for case in fold.training] == ["c"]
    assert trained.voxels == trained.steps * 8 * 16 * 16
    assert points[-1][0].steps == trained.steps
    shares = [kept.share for kept, _ in points]
    assert shares == sorted(shares)
    assert points[-1][0].spent_s == pytest.approx(3, abs=2)
    at_end = read_labels(points[-1][1]["b"]).read()
    swapped = json.loads(fold.path.read_text())
    assert {case["name"]: case.get("split") for case in swapped["cases"]}["b"] == "test"
    again = predict_bundles(method, [tmp_path / "model"], fold, tmp_path)
    assert read_labels(again.labels["a"]).read().shape == at_end.shape

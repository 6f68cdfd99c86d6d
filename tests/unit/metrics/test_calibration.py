"""Probabilities: curves and calibration with known answers."""

import math

import numpy as np
import pytest
from scipy import stats

from cellseg3d.core.errors import LabelError
from cellseg3d.metrics.calibration import (
    brier_score,
    negative_log_likelihood,
    reliability,
    roc_curve,
)


def test_the_expected_calibration_error_of_two_groups():
    probs = np.array([0.9] * 10 + [0.8] * 10)
    truth = np.array([1] * 9 + [0] + [1] * 5 + [0] * 5)

    assert reliability(probs, truth, bins=5).ece == pytest.approx(0.15)
    assert reliability(probs, truth, bins=20).ece == pytest.approx(0.15)


def test_the_ends_of_the_range_lie_in_a_bin():
    found = reliability(np.array([0.0, 1.0, 1.0]), np.array([0, 1, 0]), bins=4)

    assert found.count.tolist() == [1, 0, 0, 2]
    assert found.frequency[3] == 0.5
    assert math.isnan(found.frequency[1])
    assert found.ece == pytest.approx(2 / 3 * 0.5)


def test_the_area_under_the_curve_is_the_chance_to_rank_right():
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=300)
    probs = np.round(np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1), 2)  # ties

    area = roc_curve(probs, truth).auc

    ranks = stats.mannwhitneyu(probs[truth == 1], probs[truth == 0]).statistic
    assert area == pytest.approx(ranks / (truth.sum() * (1 - truth).sum()))


def test_the_chosen_threshold_gives_the_dice_it_promises():
    probs = np.array([0.1, 0.4, 0.35, 0.8, 0.7, 0.6])
    truth = np.array([0, 0, 1, 1, 1, 0])

    curve = roc_curve(probs, truth)
    threshold = curve.choose("dice")

    found = probs >= threshold
    dice = 2 * (found & (truth == 1)).sum() / (found.sum() + truth.sum())
    assert threshold == 0.7
    assert dice == curve.dice.max() == pytest.approx(0.8)
    assert curve.choose("youden") == 0.7


def test_unannotated_voxels_count_nowhere():
    probs = np.array([0.9, 0.2, 0.99])
    truth = np.array([1, 0, 255])

    assert roc_curve(probs, truth).auc == 1.0
    assert brier_score(probs, truth) == pytest.approx((0.01 + 0.04) / 2)
    assert negative_log_likelihood(probs, truth) == pytest.approx(
        -(math.log(0.9) + math.log(0.8)) / 2
    )


def test_one_kind_of_voxel_has_no_curve():
    curve = roc_curve(np.array([0.2, 0.4]), np.array([0, 0]))

    assert math.isnan(curve.auc)
    assert math.isnan(curve.choose("dice"))
    assert math.isnan(curve.choose("youden"))


def test_a_sure_and_wrong_voxel_costs_much_but_not_everything():
    cost = negative_log_likelihood(np.array([0.0]), np.array([1]))

    assert cost == pytest.approx(24 * math.log(2))


def test_shapes_that_differ_are_refused():
    with pytest.raises(LabelError, match="do not fit"):
        roc_curve(np.zeros((2, 3)), np.zeros((3, 2), int))

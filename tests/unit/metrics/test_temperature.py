"""A temperature undoes a scaling of the logits, and no label changes by it."""

import numpy as np
import pytest
from scipy.special import softmax

from cellseg3d.core.errors import LabelError
from cellseg3d.metrics.temperature import (
    fit_temperature,
    likelihood_loss,
    top_reliability,
)


def drawn(classes, n=40_000, seed=0):
    """Logits, and labels that come true with their probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (classes, n))
    edges = softmax(logits, axis=0).cumsum(0)
    labels = (rng.uniform(size=n) > edges).sum(0).clip(0, classes - 1)
    return logits, labels.astype(np.uint8)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_scaling_of_the_logits_is_found(classes, factor):
    logits, labels = drawn(classes)

    found = fit_temperature(logits * factor, labels)

    # 40 000 draws give the scale to about 1 %.
    assert found == pytest.approx(factor, rel=0.05)


def test_errors_fall_to_those_of_the_true_probabilities():
    logits, labels = drawn(3)
    heat = fit_temperature(3 * logits, labels)

    before, after = (top_reliability(3 * logits, labels, t).ece for t in (1.0, heat))
    losses = [likelihood_loss(3 * logits, labels, t) for t in (1.0, heat)]

    assert before > 0.1
    assert after < 0.01
    assert losses[1] == pytest.approx(likelihood_loss(logits, labels), rel=0.01)
    assert losses[1] < losses[0] - 0.1


def test_the_error_of_the_likeliest_class_is_that_of_a_count_by_hand():
    scores = np.log(np.array([[0.9, 0.9, 0.9, 0.4], [0.1, 0.1, 0.1, 0.6]]))
    labels = np.array([0, 0, 1, 1], np.uint8)

    # Stated .9 three times, right twice; stated .6 once, right.
    expected = (3 * abs(0.9 - 2 / 3) + abs(0.6 - 1)) / 4
    assert top_reliability(scores, labels).ece == pytest.approx(expected)


def test_voxels_that_are_not_annotated_do_not_count():
    logits, labels = drawn(2, 5000)
    wrong = np.concatenate([labels, np.full(5000, 255, np.uint8)])

    same = fit_temperature(np.concatenate([logits, -9 * logits], axis=1), wrong)

    assert same == pytest.approx(fit_temperature(logits, labels))


@pytest.mark.parametrize("labels", [[255, 255], [0, 2]])
def test_labels_that_cannot_be_used_are_refused(labels):
    with pytest.raises(LabelError, match="temperature"):
        fit_temperature(np.zeros((2, 2)), np.array(labels, np.uint8))

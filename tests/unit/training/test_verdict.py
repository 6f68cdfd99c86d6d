"""After a training: more time, more labels, or enough."""

import pytest

from cellseg3d.training.verdict import verdict


def rows(*scores):
    return [{"iteration": 100 * n, "score": s} for n, s in enumerate(scores, 1)]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ((0.2, 0.4, 0.5, 0.6, 0.7, 0.8), "more time"),
        ((0.2, 0.6, 0.6, 0.61, 0.6, 0.61), "more labels"),
        ((0.2, 0.9, 0.95, 0.95, 0.95, 0.95), "long enough"),
        ((0.2, 0.9, 0.95, 0.95, 0.5, 0.5), "long enough"),
    ],
)
def test_the_scores_say_what_would_help(scores, words):
    assert words in verdict(rows(*scores))


@pytest.mark.parametrize("scores", [(), (0.5,), (0.5, 0.6, 0.7)])
def test_few_scores_say_nothing(scores):
    assert verdict(rows(*scores)) == ""


def test_rows_without_a_score_do_not_count():
    others = [{"iteration": 1, "loss": 2.0}, {"score": None, "iteration": 2}]

    assert verdict(others) == ""

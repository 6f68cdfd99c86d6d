"""From true probabilities the expected Dice is the Dice; its interval holds."""

import numpy as np
import pytest

from cellseg3d.metrics.expected_dice import (
    LEVEL,
    DiceLine,
    fit_dice_line,
    in_words,
    soft_dice,
)


def test_true_probabilities_tell_the_dice():
    rng = np.random.default_rng(0)
    p = rng.beta(0.4, 0.8, 200_000)
    truth = rng.uniform(size=p.size) < p
    found = p > 0.5
    sums = np.array([[0, found.sum()], [0, p.sum()], [0, p[found].sum()]])

    soft = soft_dice(sums)

    true = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert soft[1] == pytest.approx(true, abs=0.003)
    assert np.isnan(soft[0])


def test_a_constant_error_is_corrected():
    soft = np.linspace(0.6, 0.95, 8)

    line = fit_dice_line(soft, soft - 0.1, "abcdefgh")

    value, reach = line.expect(0.8)
    assert value == pytest.approx(0.7, abs=1e-6)
    assert reach == pytest.approx(0.01)


def test_the_interval_holds_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        soft = rng.uniform(0.6, 0.95, 9)
        true = soft - 0.08 + rng.normal(0, 0.03, 9)
        line = fit_dice_line(soft[:8], true[:8], list("abcdefgh"))
        value, reach = line.expect(soft[8])
        inside += abs(value - true[8]) <= reach

    # The standard deviation of the share over 400 draws is .015.
    assert inside / 400 == pytest.approx(LEVEL, abs=0.05)


def test_the_interval_widens_away_from_the_volumes_of_the_fit():
    rng = np.random.default_rng(2)
    soft = rng.uniform(0.85, 0.95, 10)
    line = fit_dice_line(soft, soft + rng.normal(0, 0.03, 10), list("abcdefghij"))

    assert line.expect(0.3)[1] > 1.5 * line.expect(0.9)[1]


def test_volumes_of_one_group_are_left_out_together():
    soft = [0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    true = [0.9, 0.9, 0.8, 0.8, 0.7, 0.7]

    by_group = fit_dice_line(soft, true, list("aabbcc"))
    by_volume = fit_dice_line(soft, true, list("abcdef"))

    # Left out as a group, .9 is predicted from .8 and .7: it misses by .15.
    assert by_group.error == pytest.approx(np.sqrt(2 * 0.15**2 / 3))
    assert by_volume.error == pytest.approx(np.sqrt(2 * 0.12**2 / 3))
    assert (by_group.groups, by_volume.groups) == (3, 6)


def test_two_volumes_give_a_figure_without_an_interval():
    line = fit_dice_line([0.8, 0.9], [0.7, 0.8], "ab")

    value, reach = line.expect(0.85)

    assert value == pytest.approx(0.75)
    assert reach is None
    assert in_words({"classes": {"cell": {"dice": value, "within": None}}}) == (
        "expect a Dice of .75 for cell (no interval: too few validation volumes) here"
    )


def test_volumes_without_the_class_do_not_count():
    nan = float("nan")

    line = fit_dice_line([nan, 0.8, 0.9], [0.0, nan, 0.7], "abc")

    assert (line.n, line.mean) == (1, 0.7)
    assert fit_dice_line([nan], [0.5], "a") is None


def test_a_line_survives_json_and_a_broken_one_is_refused():
    line = fit_dice_line([0.8, 0.9, 0.7, 0.6], [0.7, 0.85, 0.6, 0.55], "abcd")
    values = line.as_dict()

    again = DiceLine.parse(values)

    assert again.expect(0.8)[0] == pytest.approx(line.expect(0.8)[0], abs=1e-4)
    with pytest.raises(ValueError, match="not finite"):
        DiceLine.parse({**values, "slope": float("nan")})


def test_what_cannot_be_trusted_gets_no_figure():
    said = in_words({"untrusted": "the volume is blurred"})

    assert said == "no Dice is expected here: the volume is blurred"
    assert in_words({}) == ""
    assert in_words({"classes": {"a": {"dice": None, "within": None}}}) == (
        "expect a Dice of none for a (no voxel has its label) here"
    )

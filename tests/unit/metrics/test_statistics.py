"""Intervals and paired tests: known answers, coverage, and honest sentences."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from cellseg3d.metrics.comparison import (
    compare_paired,
    holm,
    sign_flip_p,
    wilcoxon_p,
)
from cellseg3d.metrics.statistics import bootstrap_interval, group_means, summarise


def test_holm_corrects_step_by_step():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_undefined_out_of_the_count():
    corrected = holm([0.02, math.nan, 0.5])

    assert corrected[0] == pytest.approx(0.04)
    assert math.isnan(corrected[1])


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(1).gamma(2.0, size=25)

    low, high = bootstrap_interval(values, seed=4)

    known = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=10_000,
        method="BCa",
        rng=np.random.default_rng(4),
    ).confidence_interval
    # The same draws and the same formulas: they differ by rounding alone.
    assert (low, high) == pytest.approx(known, rel=1e-12)
    assert low < values.mean() < high


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(300):
        values = rng.beta(8, 2, size=30)
        low, high = bootstrap_interval(values, resamples=1000, seed=trial)
        hits += low <= 0.8 <= high

    # 95 % of 300 is 285; five standard deviations of a binomial are 19.
    assert 266 <= hits <= 300


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(1).gamma(2.0, size=25)

    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_equal_values_have_no_width_and_single_ones_no_interval():
    assert bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert all(math.isnan(end) for end in bootstrap_interval([0.5]))
    assert all(math.isnan(end) for end in bootstrap_interval([0.5, math.inf]))


def test_a_summary_counts_what_is_undefined_and_says_n():
    summary = summarise([0.8, math.nan, 0.9, 0.7])

    assert summary.mean == pytest.approx(0.8)
    assert (summary.n, summary.n_undefined) == (3, 1)
    assert summary.sd == pytest.approx(0.1)
    assert "n = 3" in summary.note
    assert "too few" in summary.note
    assert summarise(list(np.linspace(0.5, 0.9, 12))).note == ""


def test_volumes_of_one_specimen_are_one_value():
    summary = summarise([1.0, 0.0, 0.0, 0.0], ["a", "b", "b", "b"])

    assert summary.mean == 0.5
    assert summary.n == 2
    np.testing.assert_array_equal(
        group_means([1.0, math.nan, 3.0], ["b", "a", "b"]), [2.0, math.nan]
    )


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_permutation_test_is_exact(n):
    differences = np.random.default_rng(n).normal(0.4, 1, n)

    sums = [
        abs(np.dot(signs, differences))
        for signs in itertools.product([1, -1], repeat=n)
    ]
    brute = np.mean([each >= abs(differences.sum()) - 1e-12 for each in sums])
    assert sign_flip_p(differences) == pytest.approx(brute)


def test_many_pairs_are_tested_by_drawing():
    differences = np.random.default_rng(0).normal(0.5, 1, 40)

    p = sign_flip_p(differences)

    # The t test answers the same question for normal differences.
    assert p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.003)


def test_five_pairs_can_never_be_significant_and_it_says_so():
    found = compare_paired([0.9] * 5, [0.1, 0.2, 0.1, 0.3, 0.2])

    assert found.p_permutation == pytest.approx(2 / 2**5)
    assert "cannot reach p < .05" in found.note
    assert "0.0625" in found.note


def test_a_paired_comparison_reports_effect_and_interval():
    rng = np.random.default_rng(2)
    second = rng.uniform(0.6, 0.8, 20)
    first = second + rng.normal(0.05, 0.02, 20)

    found = compare_paired(first, second)

    difference = first - second
    assert found.difference == pytest.approx(difference.mean())
    assert found.effect == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert found.low < found.difference < found.high
    assert found.effect_low < found.effect < found.effect_high
    assert found.p_permutation < 0.001
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(difference).pvalue)
    assert (found.n, found.n_undefined, found.note) == (20, 0, "")


def test_pairs_with_an_undefined_score_are_counted():
    found = compare_paired([0.9, math.nan, 0.7], [0.8, 0.5, 0.6])

    assert (found.n, found.n_undefined) == (2, 1)
    assert found.difference == pytest.approx(0.1)


def test_equal_methods_have_p_one():
    assert sign_flip_p(np.zeros(8)) == 1.0
    assert wilcoxon_p(np.zeros(8)) == 1.0

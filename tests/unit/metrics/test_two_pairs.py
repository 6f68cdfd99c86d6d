import math

from cellseg3d.metrics.comparison import compare_paired


def test_two_pairs_are_compared_without_a_warning_and_without_a_claim():
    pair = compare_paired([0.8, 0.9], [0.7, 0.6])

    assert math.isclose(pair.difference, 0.2)
    assert "no difference can be significant" in pair.note

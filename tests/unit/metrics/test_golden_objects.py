"""Object scores on cases small enough to answer by hand."""

import itertools
import math
import sys

import numpy as np
import pytest

from cellseg3d.metrics.components import label_components
from cellseg3d.metrics.contingency import count_pairs
from cellseg3d.metrics.object_scores import (
    AP_THRESHOLDS,
    ObjectMatch,
    average_precision,
    match_objects,
    object_scores,
    recall_by_size,
)
from cellseg3d.metrics.partition import (
    adapted_rand_error,
    partition_scores,
    variation_of_information,
)


def line(*runs):
    """A volume of one row: (id, voxels) after one another."""
    ids = np.concatenate([np.full(length, value) for value, length in runs])
    return ids.astype(np.uint16).reshape(1, 1, -1)


def scores_of(prediction, truth):
    return object_scores(match_objects(prediction, truth))


def test_an_iou_of_exactly_half_is_no_match():
    found = scores_of(line((1, 2), (0, 2)), line((7, 4)))

    assert (found["tp"], found["fp"], found["fn"], found["pq"]) == (0, 1, 1, 0.0)


def test_an_iou_just_above_half_is_a_match():
    found = scores_of(line((1, 51), (0, 49)), line((7, 100)))

    assert (found["tp"], found["pq"]) == (1, 0.51)


def test_one_prediction_over_two_equal_cells():
    prediction, truth = line((1, 16)), line((1, 8), (2, 8))

    found = scores_of(prediction, truth)
    table = count_pairs(prediction, truth)

    assert (found["tp"], found["fp"], found["fn"], found["merges"]) == (0, 1, 2, 1)
    assert (found["splits"], found["misses"]) == (0, 0)
    assert variation_of_information(table) == (0.0, 1.0)
    assert adapted_rand_error(table) == pytest.approx(1 / 3)


def test_a_cell_of_ten_split_into_six_and_four():
    found = scores_of(line((1, 6), (2, 4)), line((1, 10)))

    assert (found["tp"], found["fp"], found["fn"], found["splits"]) == (1, 1, 0, 1)
    assert found["sq"] == pytest.approx(0.6)
    assert found["rq"] == pytest.approx(2 / 3)
    assert found["pq"] == pytest.approx(0.4)
    assert found["ap"] == pytest.approx(0.5)
    # .6 is above .5 and .55 and not above .6
    assert found["ap_mean"] == pytest.approx(0.5 * 2 / 10)


def test_no_objects_on_either_side_is_undefined():
    empty = line((0, 9))

    found = scores_of(empty, empty)
    partition = partition_scores(count_pairs(empty, empty))

    for name in ("object_f1", "pq", "sq", "rq", "ap", "ap_mean", "object_precision"):
        assert math.isnan(found[name]), name
    assert all(math.isnan(score) for score in partition.values())


@pytest.mark.parametrize(("predicted", "true"), [(0, 1), (1, 0)])
def test_objects_on_one_side_only_score_zero(predicted, true):
    found = scores_of(line((predicted, 9)), line((true, 9)))

    names = ("object_f1", "pq", "sq", "rq", "ap", "ap_mean", "object_precision")
    assert [found[name] for name in names] == [0.0] * 7
    assert found["misses"] == true


def test_permuted_ids_beyond_255_score_one():
    ids = np.arange(1, 301, dtype=np.uint16).reshape(3, 10, 10)
    permuted = np.random.default_rng(0).permutation(301).astype(np.uint16)
    permuted = permuted[permuted > 0]

    found = scores_of(permuted[ids - 1], ids)

    assert (found["pq"], found["tp"], found["ap_mean"]) == (1.0, 300, 1.0)


def test_ids_beyond_32_bits_are_kept_apart():
    truth = np.array([2**40] * 4 + [2**40 + 1] * 4, np.uint64).reshape(1, 1, 8)

    found = scores_of(truth[..., ::-1], truth)

    assert (found["n_true"], found["pq"]) == (2, 1.0)


def test_a_missed_cell_is_counted_as_missed():
    found = scores_of(line((0, 7), (5, 9)), line((1, 7), (2, 9)))

    assert (found["misses"], found["fn"], found["object_recall"]) == (1, 1, 0.5)


def test_recall_by_size_tells_small_from_large():
    truth = line((1, 2), (2, 3), (3, 20), (4, 30))
    prediction = line((0, 2), (2, 3), (3, 20), (4, 30))

    small, large = recall_by_size(
        match_objects(prediction, truth), [5.0], voxel_volume_um3=0.5
    )

    assert (small["n"], small["recall"]) == (2, 0.5)
    assert (large["n"], large["recall"], large["from"]) == (2, 1.0, 5.0)


def test_average_precision_never_rises_with_the_threshold():
    rng = np.random.default_rng(3)
    truth = np.repeat(rng.integers(0, 6, (2, 6, 6)), 3, axis=2)
    prediction = np.roll(truth, 1, axis=2)

    pairs = average_precision(match_objects(prediction, truth))

    assert [threshold for threshold, _ in pairs] == list(AP_THRESHOLDS)
    assert pairs[0][1] > pairs[-1][1]
    assert all(a >= b for (_, a), (_, b) in itertools.pairwise(pairs))


def test_a_threshold_below_half_is_refused():
    with pytest.raises(ValueError, match="ambiguous"):
        match_objects(line((1, 2)), line((1, 2))).matched(0.3)


def test_unannotated_voxels_belong_to_no_object():
    table = count_pairs(line((1, 4), (2, 6)), line((1, 4), (255, 6)))

    found = object_scores(ObjectMatch.of(table, not_annotated=255))

    assert (found["n_predicted"], found["pq"]) == (1, 1.0)


def test_components_touch_by_corner_and_keep_their_order():
    mask = np.zeros((3, 6, 6), bool)
    mask[0, 4, 4] = mask[2, 0, 0] = mask[1, 1, 1] = True

    labels = label_components(mask)

    assert labels[0, 4, 4] == 1
    assert labels[2, 0, 0] == labels[1, 1, 1] == 2


def test_components_are_the_same_without_the_extra(monkeypatch):
    pytest.importorskip("cc3d")
    mask = np.random.default_rng(0).random((6, 9, 12)) > 0.9
    fast = label_components(mask)

    monkeypatch.setitem(sys.modules, "cc3d", None)
    slow = label_components(mask)

    assert fast.max() > 5
    table = count_pairs(fast, slow.astype(fast.dtype))
    assert object_scores(ObjectMatch.of(table))["pq"] == 1.0

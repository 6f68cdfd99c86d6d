"""Voxel and surface scores on cases small enough to answer by hand."""

import math

import numpy as np
import pytest

from cellseg3d.core.errors import LabelError, SpacingError
from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.overlap import (
    accuracy,
    dice,
    jaccard,
    mean_defined,
    overlap_counts,
    precision,
    recall,
)
from cellseg3d.metrics.surface import SurfaceDistances, surface_distances

CUBES = Spacing(1, 1, 1)


def box(shape, *sides):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(*side) for side in sides)] = 1
    return mask


def cube10():
    return box((20, 20, 20), (5, 15), (5, 15), (5, 15))


def test_nothing_on_either_side_is_undefined():
    empty = np.zeros((4, 5, 6), np.uint8)

    scores = overlap_counts(empty, empty).scores()
    distances = surface_distances(empty, empty, CUBES).scores(1)

    assert scores.pop("accuracy") == 1.0
    assert all(math.isnan(score) for score in scores.values())
    assert all(math.isnan(score) for score in distances.values())


def test_a_miss_is_the_worst_score_and_never_undefined():
    truth = box((8, 8, 8), (2, 6), (2, 6), (2, 6))
    empty = np.zeros_like(truth)

    assert [f(empty, truth) for f in (dice, jaccard, precision, recall)] == [0] * 4
    assert surface_distances(empty, truth, CUBES).scores(1) == {
        "hausdorff_um": math.inf,
        "hd95_um": math.inf,
        "assd_um": math.inf,
        "masd_um": math.inf,
        "nsd": 0.0,
    }


def test_an_imagined_class_scores_zero_and_has_no_recall():
    imagined = box((8, 8, 8), (2, 6), (2, 6), (2, 6))
    empty = np.zeros_like(imagined)

    assert [f(imagined, empty) for f in (dice, jaccard, precision)] == [0] * 3
    assert math.isnan(recall(imagined, empty))
    assert surface_distances(imagined, empty, CUBES).hd95 == math.inf


def test_a_cube_shifted_across_thick_slices():
    truth = cube10()
    shifted = np.roll(truth, 2, axis=0)

    found = surface_distances(shifted, truth, Spacing(5, 1, 1))

    assert dice(shifted, truth) == pytest.approx(0.8)
    assert jaccard(shifted, truth) == pytest.approx(2 / 3)
    assert found.hausdorff == 10.0
    assert found.assd == pytest.approx(2.66393, abs=5e-6)
    assert found.nsd(4) == pytest.approx(0.72131, abs=5e-6)


def test_a_cube_shifted_within_thin_slices():
    truth = cube10()
    shifted = np.roll(truth, 2, axis=2)

    found = surface_distances(shifted, truth, Spacing(5, 1, 1))

    assert found.hausdorff == 2.0
    assert found.assd == pytest.approx(0.71311, abs=5e-6)
    assert found.nsd(1) == pytest.approx(0.69672, abs=5e-6)


def test_distance_is_physical():
    prediction, truth = np.zeros((2, 1, 10, 10), np.uint8)
    prediction[0, 2, 2] = truth[0, 5, 6] = 1

    found = surface_distances(prediction, truth, Spacing(2, 1, 0.5))

    assert found.hausdorff == pytest.approx(3.60555, abs=5e-6)


def test_the_border_of_the_volume_is_a_surface():
    truth = np.ones((6, 6, 6), np.uint8)
    prediction = truth.copy()
    prediction[0] = 0

    found = surface_distances(prediction, truth, CUBES)

    assert found.hausdorff == 1.0
    assert found.assd == pytest.approx(0.18310, abs=5e-6)
    assert found.masd == pytest.approx(0.17903, abs=5e-6)
    assert found.nsd(0.5) == pytest.approx(0.81690, abs=5e-6)


def test_one_slice_has_an_outline_and_no_lids():
    truth = np.ones((1, 12, 12), np.uint8)
    prediction = box((1, 12, 12), (0, 1), (1, 11), (1, 11))

    found = surface_distances(prediction, truth, CUBES)

    assert found.hausdorff == found.hd95 == pytest.approx(1.41421, abs=5e-6)
    assert found.assd == pytest.approx(1.02071, abs=5e-6)
    assert found.nsd(0.5) == 0.0


def test_hd95_is_the_larger_of_two_directed_percentiles():
    near = np.zeros(1000)
    far = np.concatenate([np.zeros(92), np.full(8, 30.0)])

    found = SurfaceDistances(near, far)

    assert found.hd95 == 30.0
    assert np.percentile(np.concatenate([near, far]), 95) == 0.0


def test_one_far_voxel_shows_in_hausdorff_alone():
    truth = np.zeros((30, 30, 30), np.uint8)
    truth[5:15, 5:15, 5:15] = 1
    prediction = truth.copy()
    prediction[22, 22, 22] = 1

    found = surface_distances(prediction, truth, CUBES)

    assert dice(prediction, truth) == pytest.approx(0.9995, abs=5e-6)
    assert found.hausdorff == pytest.approx(13.856, abs=5e-4)
    assert found.hd95 == 0.0


def test_unannotated_voxels_count_nowhere():
    truth = cube10()
    prediction = cube10()
    truth[:6] = 255
    prediction[:6] = 1

    found = surface_distances(prediction == 1, truth == 1, CUBES, truth != 255)

    assert dice(prediction, truth) == 1.0
    assert accuracy(prediction, truth) == 1.0
    assert overlap_counts(prediction, truth).tp == 900
    assert found.hausdorff == 0.0
    # The cut at the border of the annotation is no surface: nine rings and one lid.
    assert len(found.from_truth) == 8 * 36 + 100


def test_the_mean_over_volumes_shows_a_failed_small_one():
    table = [overlap_counts(*pair) for pair in _small_and_large()]

    pooled = 2 * 999 / (2 * 999 + 3)
    mean, n, undefined = mean_defined([float(each.dice) for each in table])

    assert (round(mean, 5), n, undefined) == (0.83283, 2, 0)
    assert round(pooled, 5) == 0.9985


def _small_and_large():
    for found, missed in ((1, 1), (998, 2)):
        truth = np.ones((1, 1, found + missed), np.uint8)
        prediction = truth.copy()
        prediction[..., found:] = 0
        yield prediction, truth


def test_undefined_is_counted_and_infinite_is_not_undefined():
    assert mean_defined([1.0, math.nan, 0.0]) == (0.5, 2, 1)
    assert mean_defined([1.0, math.inf])[0] == math.inf


def test_shapes_that_differ_are_refused_with_both():
    with pytest.raises(LabelError, match=r"\(2, 3, 4\).*\(4, 3, 2\).*transposed"):
        dice(np.zeros((2, 3, 4), int), np.zeros((4, 3, 2), int))


def test_probabilities_are_refused_as_labels():
    with pytest.raises(LabelError, match="float32"):
        dice(np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 4), int))


def test_distances_without_a_spacing_are_refused():
    with pytest.raises(SpacingError, match="spacing"):
        surface_distances(cube10(), cube10(), None)

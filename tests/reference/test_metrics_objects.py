"""Object scores and measurements against scikit-image, MONAI and a brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.contingency import count_pairs
from cellseg3d.metrics.morphometry import measure_objects
from cellseg3d.metrics.object_scores import match_objects, mistakes, object_scores
from cellseg3d.metrics.partition import adapted_rand_error, variation_of_information

SPACING = Spacing(2.0, 1.0, 0.5)


def objects(seed, shape=(16, 40, 40)):
    """Two similar volumes of some dozen objects."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 1.6)
    other = field + 0.3 * gaussian_filter(rng.normal(size=shape), 1.6)
    bar = np.quantile(field, 0.8)
    return label(other > bar)[0], label(field > bar)[0]


@pytest.mark.parametrize("seed", range(3))
def test_variation_of_information_is_that_of_scikit_image(seed):
    metrics = pytest.importorskip("skimage.metrics")
    prediction, truth = objects(seed)
    table = count_pairs(prediction, truth)

    ignoring = metrics.variation_of_information(truth, prediction, ignore_labels=[0])
    everything = metrics.variation_of_information(truth, prediction)

    assert variation_of_information(table) == pytest.approx(tuple(ignoring))
    assert variation_of_information(table, None) == pytest.approx(tuple(everything))


def test_adapted_rand_is_that_of_scikit_image_but_for_its_diagonal():
    metrics = pytest.importorskip("skimage.metrics")
    prediction, truth = objects(4)
    prediction = prediction + 1  # so that nothing is predicted to be background

    found = adapted_rand_error(count_pairs(prediction, truth))

    # scikit-image leaves out the pairs of a voxel with itself: of 5000 voxels in
    # objects of hundreds, less than 1 %.
    known, _, _ = metrics.adapted_rand_error(truth, prediction, ignore_labels=(0,))
    assert found == pytest.approx(known, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_adapted_rand_is_the_f_score_of_voxel_pairs(seed):
    rng = np.random.default_rng(seed)
    prediction, truth = rng.integers(0, 3, (2, 1, 3, 4))
    if not truth.any():
        return

    p, t = prediction[truth > 0], truth[truth > 0]
    same_truth = t[:, None] == t[None]
    same = (p[:, None] == p[None]) & (p[:, None] > 0)
    np.fill_diagonal(same, val=True)  # a voxel predicted 0 is an object of its own
    both = (same & same_truth).sum()
    f = 2 * both / (same.sum() + same_truth.sum())
    assert adapted_rand_error(count_pairs(prediction, truth)) == pytest.approx(1 - f)


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_quality_is_that_of_monai(seed):
    metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    prediction, truth = objects(seed)

    found = object_scores(match_objects(prediction, truth))

    known = metrics.compute_panoptic_quality(
        torch.from_numpy(prediction.astype(np.int64)),
        torch.from_numpy(truth.astype(np.int64)),
        metric_name="pq",
        match_iou_threshold=0.5,
    )
    assert found["tp"] > 5
    assert found["pq"] == pytest.approx(float(known), rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), ids=st.integers(2, 5))
def test_matches_and_mistakes_are_those_of_a_brute_force(seed, ids):
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.integers(0, ids, (2, 3, 3)), 3, axis=2)
    prediction = np.where(rng.random(truth.shape) < 0.2, 0, np.roll(truth, 1, 2))

    match = match_objects(prediction, truth)

    true_ids, predicted_ids = (set(np.unique(a)) - {0} for a in (truth, prediction))
    tp = splits = merges = misses = 0
    for t in true_ids:
        inside = truth == t
        parts = [prediction == p for p in predicted_ids]
        tp += sum((inside & part).sum() * 2 > (inside | part).sum() for part in parts)
        splits += sum((inside & part).sum() * 2 > part.sum() for part in parts) > 1
        misses += (prediction[inside] > 0).sum() * 2 <= inside.sum()
    for p in predicted_ids:
        part = prediction == p
        held = [(part & (truth == t)).sum() * 2 > (truth == t).sum() for t in true_ids]
        merges += sum(held) > 1
    assert object_scores(match)["tp"] == tp
    assert mistakes(match) == {"splits": splits, "merges": merges, "misses": misses}


def test_measurements_are_those_of_regionprops():
    measure = pytest.importorskip("skimage.measure")
    _, labels = objects(1)
    image = np.random.default_rng(0).normal(3, 1, labels.shape)

    table = measure_objects(labels, SPACING, image)

    known = measure.regionprops(labels, image, spacing=SPACING.zyx)
    assert len(known) > 10
    assert table["id"].tolist() == [each.label for each in known]
    assert table["voxels"].tolist() == [int(each.num_pixels) for each in known]
    boxes = np.stack([table[k] for k in ("z0", "y0", "x0", "z1", "y1", "x1")], axis=1)
    assert boxes.tolist() == [list(map(int, each.bbox)) for each in known]
    places = np.stack([table[f"centroid_{c}_um"] for c in "zyx"], axis=1)
    np.testing.assert_allclose(places, [each.centroid for each in known])
    np.testing.assert_allclose(
        table["mean_intensity"], [each.intensity_mean for each in known]
    )
    np.testing.assert_allclose(
        table["sd_intensity"], [each.intensity_std for each in known], atol=1e-12
    )
    large = [row for row, each in enumerate(known) if each.num_pixels > 200]
    # regionprops takes voxels for points; large objects hardly notice.
    np.testing.assert_allclose(
        table["axis1_um"][large],
        [known[row].axis_major_length for row in large],
        rtol=0.02,
    )


def test_the_mesh_area_is_that_of_marching_cubes():
    measure = pytest.importorskip("skimage.measure")
    z, y, x = np.ogrid[-12:13, -24:25, -48:49]
    distance = np.sqrt((z * 2.0) ** 2 + y**2 + (x * 0.5) ** 2)
    labels = (distance + 3 * np.sin(y / 6.0) < 18).astype(np.uint8)

    found = measure_objects(labels, SPACING)["surface_area_um2"][0]

    corners, faces, _, _ = measure.marching_cubes(
        np.pad(labels, 1).astype(np.float32), 0.5, spacing=SPACING.zyx
    )
    # The same polygons, cut into triangles in another way: their area differs where
    # a polygon is not flat.
    assert found == pytest.approx(measure.mesh_surface_area(corners, faces), rel=0.03)

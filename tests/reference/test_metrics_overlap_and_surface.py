"""Voxel and surface scores against MONAI and against a brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.contingency import count_slices, total
from cellseg3d.metrics.overlap import class_scores, dice, jaccard, precision, recall
from cellseg3d.metrics.surface import surface_distances

SPACING = Spacing(2.0, 1.0, 0.5)


def blobs(seed, shape=(14, 24, 30), classes=3):
    """Two similar volumes of smooth classes that stay away from the border."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 2)
    other = field + 0.4 * gaussian_filter(rng.normal(size=shape), 2)
    inside = np.zeros(shape, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    levels = np.quantile(field, np.linspace(0.5, 0.9, classes - 1))
    return [
        (np.digitize(each, levels) * inside).astype(np.uint8) for each in (other, field)
    ]


def one_hot(labels, classes=3):
    torch = pytest.importorskip("torch")
    hot = [labels == value for value in range(classes)]
    return torch.from_numpy(np.stack(hot)[None].astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_overlap_is_that_of_monai(seed):
    metrics = pytest.importorskip("monai.metrics")
    prediction, truth = blobs(seed)
    hot = one_hot(prediction), one_hot(truth)

    known = metrics.compute_dice(*hot, include_background=False)[0].tolist()
    known_iou = metrics.compute_iou(*hot, include_background=False)[0].tolist()
    table = metrics.get_confusion_matrix(*hot, include_background=False)
    known_ppv, known_tpr = (
        metrics.compute_confusion_matrix_metric(name, table)[0].tolist()
        for name in ("precision", "sensitivity")
    )

    for value in (1, 2):
        assert dice(prediction, truth, value) == pytest.approx(known[value - 1])
        assert jaccard(prediction, truth, value) == pytest.approx(known_iou[value - 1])
        found = precision(prediction, truth, value)
        assert found == pytest.approx(known_ppv[value - 1])
        assert recall(prediction, truth, value) == pytest.approx(known_tpr[value - 1])


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(3))
def test_surface_distances_are_those_of_monai(seed):
    metrics = pytest.importorskip("monai.metrics")
    prediction, truth = blobs(seed, classes=2)
    hot = one_hot(prediction, 2), one_hot(truth, 2)
    spacing = list(SPACING.zyx)

    found = surface_distances(prediction, truth, SPACING)

    known = {
        "hausdorff": metrics.compute_hausdorff_distance(*hot, spacing=spacing),
        "hd95": metrics.compute_hausdorff_distance(
            *hot, spacing=spacing, percentile=95
        ),
        "assd": metrics.compute_average_surface_distance(
            *hot, spacing=spacing, symmetric=True
        ),
        "nsd": metrics.compute_surface_dice(
            *hot, class_thresholds=[1.0], spacing=spacing
        ),
    }
    # MONAI counts in float32.
    assert found.hausdorff == pytest.approx(float(known["hausdorff"]), rel=1e-5)
    assert found.hd95 == pytest.approx(float(known["hd95"]), rel=1e-5)
    assert found.assd == pytest.approx(float(known["assd"]), rel=1e-5)
    assert found.nsd(1.0) == pytest.approx(float(known["nsd"]), rel=1e-5)


def brute_distances(one, other, spacing):
    """Directed distances, voxel by voxel."""
    points = [_brute_surface(mask) * np.array(spacing) for mask in (one, other)]
    gaps = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    return gaps.min(1), gaps.min(0)


def _brute_surface(mask):
    found = []
    for place in np.argwhere(mask):
        for axis in range(3):
            for step in (-1, 1):
                near = place.copy()
                near[axis] += step
                if mask.shape[axis] == 1:
                    continue
                outside = not 0 <= near[axis] < mask.shape[axis]
                if outside or not mask[tuple(near)]:
                    found.append(tuple(place))
    return np.array(sorted(set(found)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.tuples(*[st.integers(1, 5)] * 3))
def test_surface_distances_are_those_of_a_brute_force(seed, shape):
    masks = np.random.default_rng(seed).random((2, *shape)) > 0.6
    if max(shape) == 1 or not (masks[0].any() and masks[1].any()):
        return

    found = surface_distances(masks[0], masks[1], SPACING)

    one, two = brute_distances(masks[0], masks[1], SPACING.zyx)
    pooled = np.concatenate([one, two])
    assert found.hausdorff == pytest.approx(pooled.max())
    assert found.hd95 == pytest.approx(
        max(np.percentile(one, 95), np.percentile(two, 95))
    )
    assert found.assd == pytest.approx(pooled.mean())
    assert found.masd == pytest.approx((one.mean() + two.mean()) / 2)
    assert found.nsd(1.0) == pytest.approx((pooled <= 1.0).mean())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    wide=st.booleans(),
)
def test_scores_are_those_of_a_brute_force(seed, shape, wide):
    rng = np.random.default_rng(seed)
    kind = np.uint32 if wide else np.uint8
    prediction = rng.integers(0, 4, shape).astype(kind)
    truth = rng.choice([0, 1, 2, 255], shape).astype(np.uint8)

    scores = class_scores(count_slices(prediction, truth), 1)

    p, t = prediction[truth != 255] == 1, truth[truth != 255] == 1
    assert scores["tp"] == (p & t).sum()
    assert scores["fp"] == (p & ~t).sum()
    assert scores["fn"] == (~p & t).sum()
    assert scores["tn"] == (~p & ~t).sum()
    slices = [
        2 * (a & b).sum() / (a.sum() + b.sum())
        for a, b in (
            (x[y != 255] == 1, y[y != 255] == 1)
            for x, y in zip(prediction, truth, strict=True)
        )
        if a.any() or b.any()
    ]
    assert scores["n_slices"] == len(slices)
    median = np.median(slices) if slices else np.nan
    assert scores["dice_slice_median"] == pytest.approx(median, nan_ok=True)


def test_wide_and_narrow_types_count_the_same():
    prediction, truth = blobs(5)

    narrow = total(count_slices(prediction, truth))
    wide = total(count_slices(prediction.astype(np.int64), truth.astype(np.uint16)))

    for name in ("predicted", "true", "count"):
        np.testing.assert_array_equal(getattr(narrow, name), getattr(wide, name))

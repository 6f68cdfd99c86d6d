"""Fusing sources: agreement stays, weights mean what they say, useless ones go."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import noise_volume, small_model

from cellseg3d.calibration.learned_fusion import fit_weights
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.prediction.fusion import (
    FUSE_MODES,
    Fuser,
    Fusion,
    anisotropy_prior,
    labels_of,
    probs_of,
)
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.prediction.views import symmetric_views

SHAPE = (3, 4, 5)
WHOLE = Roi.whole(SHAPE)


@pytest.fixture(params=["off", "auto"], ids=["plain", "accelerated"])
def exact(request):
    """Options for probabilities in float32, of the plain and of the fast network."""
    return SegmentOptions(probs=True, precision="float32", acceleration=request.param)


def some_probs(seed, classes=3):
    scores = np.random.default_rng(seed).normal(size=(classes, *SHAPE))
    return probs_of(torch.from_numpy(scores.astype(np.float32) * 3))


def fused(mode, parts, weights=()):
    fuser = Fuser(Fusion(mode, weights), len(parts), len(parts[0]), SHAPE, compare=True)
    for index, probs in enumerate(parts):
        fuser.add(index, WHOLE, probs)
    return fuser, fuser.probs()


@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_are_the_softmax(classes):
    scores = torch.randn(classes, *SHAPE, generator=torch.Generator().manual_seed(0))

    np.testing.assert_allclose(probs_of(scores), scores.softmax(0), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_labels_are_the_argmax_with_ties_to_the_lower(classes):
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.integers(0, 3, (classes, 9, 9, 9)).astype("f4"))

    np.testing.assert_array_equal(labels_of(scores), scores.numpy().argmax(0))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("mode", FUSE_MODES)
def test_fusion_keeps_agreement_and_sums_to_one(mode, classes):
    probs = some_probs(0, classes)

    fuser, together = fused(mode, [probs] * 3)

    np.testing.assert_allclose(together.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(labels_of(together), labels_of(probs))
    assert fuser.uncertainty(together).max() < 1e-4
    if mode in ("mean", "weighted", "product"):
        np.testing.assert_allclose(together, probs, atol=1e-3)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(mode=st.sampled_from(FUSE_MODES), seed=st.integers(0, 99))
def test_the_order_of_sources_does_not_matter(mode, seed):
    parts = [some_probs(seed + index) for index in range(3)]

    np.testing.assert_allclose(
        fused(mode, parts)[1], fused(mode, parts[::-1])[1], atol=1e-5
    )


def test_modes_are_what_they_are_called():
    parts = [some_probs(seed) for seed in range(3)]
    stack = torch.stack(parts)

    product = stack.clamp_min(1e-4).log().mean(0).softmax(0)
    votes = np.stack([(stack.argmax(1) == k).sum(0) for k in range(3)])

    np.testing.assert_allclose(fused("mean", parts)[1], stack.mean(0), atol=1e-6)
    np.testing.assert_allclose(fused("product", parts)[1], product, atol=1e-5)
    highest = stack.amax(0)
    np.testing.assert_allclose(
        fused("maximum", parts)[1], highest / highest.sum(0), atol=1e-6
    )
    won = labels_of(fused("vote", parts)[1]).numpy()
    np.testing.assert_array_equal(
        np.take_along_axis(votes, won[None].astype(int), 0)[0], votes.max(0)
    )


def test_a_source_of_no_weight_says_nothing():
    one, other = some_probs(0), some_probs(1)
    weights = ((2.0, 2.0, 2.0), (0.0, 0.0, 0.0))

    np.testing.assert_allclose(
        fused("weighted", [one, other], weights)[1], one, atol=1e-6
    )
    with pytest.raises(ConfigError, match="weights"):
        fused("weighted", [one, other], ((1.0, 1.0, 1.0),))


def test_disagreement_is_uncertain():
    sure = torch.zeros(2, *SHAPE)
    sure[0] = 1

    fuser, together = fused("mean", [sure, sure.flip(0)])

    np.testing.assert_allclose(fuser.uncertainty(together), 1, atol=1e-5)


def test_coarse_slices_weigh_less():
    z, y, x = anisotropy_prior("zyx", Spacing(0.4, 0.1, 0.1))

    assert z == pytest.approx(1)
    assert y == pytest.approx(0.25)
    assert x == pytest.approx(0.25)
    assert anisotropy_prior("zy", None) == (1.0, 1.0)


def truth_and_sources(seed, errors):
    """Labels, and sources that see them through noise of each size."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 20_000).astype(np.uint8)
    hot = np.eye(3)[labels].T
    parts = [hot * 2 + rng.normal(0, error, hot.shape) for error in errors]
    scores = np.exp(np.stack(parts))
    return labels, (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def test_useless_sources_get_no_weight_and_the_user_is_told():
    labels, probs = truth_and_sources(0, (0.4, 6.0, 6.0))

    learned = fit_weights(["axis z", "axis y", "axis x"], probs, labels)

    assert learned.sentence.startswith("axis z alone is as good")
    assert max(learned.rows[1] + learned.rows[2]) == 0
    assert min(learned.rows[0]) > 0
    assert learned.dice > learned.dice_mean


def test_sources_that_help_each_other_are_kept():
    labels, probs = truth_and_sources(0, (1.5, 1.5, 1.5))
    labels[:500] = 255

    learned = fit_weights(["z", "y", "x"], probs, labels)

    assert min(map(min, learned.rows)) > 0.1
    assert "all 3 sources help" in learned.sentence
    with pytest.raises(ConfigError, match="annotated"):
        fit_weights(["z", "y", "x"], probs, np.full_like(labels, 255))


def test_learned_weights_come_from_the_bundle():
    weights = {"z": [1.0, 1.0], "y": [0.0, 0.0]}
    model = small_model(dims=2, axes="zy", fusion=weights)
    volume = noise_volume((7, 18, 20))

    learned = segment(volume, model, SegmentOptions(fuse="learned", probs=True))

    alone = segment(volume, model, SegmentOptions(axes="z", probs=True))
    np.testing.assert_allclose(learned.probs, alone.probs, atol=1e-6)
    with pytest.raises(ConfigError, match="no learned weights"):
        segment(volume, small_model(dims=2), SegmentOptions(fuse="learned"))


WEIGHTS = {"z": [3.0, 1.0], "y": [1.0, 1.0], "x": [0.0, 0.0]}


def test_weights_that_a_bundle_holds_count_unless_axes_are_given(exact):
    model = small_model(dims=2, axes="zyx", fusion=WEIGHTS)
    plain = small_model(dims=2, axes="zyx")
    volume = noise_volume((16, 18, 20))

    found = segment(volume, model, exact)

    learned = segment(volume, model, replace(exact, fuse="learned"))
    parts = [segment(volume, plain, replace(exact, axes=axis)).probs for axis in "zy"]
    mixed = np.stack(
        [
            0.75 * parts[0][0] + 0.25 * parts[1][0],
            0.5 * parts[0][1] + 0.5 * parts[1][1],
        ]
    )
    np.testing.assert_allclose(found.probs, mixed / mixed.sum(0), atol=1e-6)
    np.testing.assert_array_equal(found.probs, learned.probs)
    asked = segment(volume, model, replace(exact, axes="zyx")).probs
    np.testing.assert_array_equal(asked, segment(volume, plain, exact).probs)
    assert np.abs(asked - found.probs).max() > 1e-3


def test_coarse_slices_weigh_less_by_default(exact):
    model = small_model(dims=2, axes="zyx")
    volume = noise_volume((16, 18, 20), spacing=(0.4, 0.1, 0.1))

    found = segment(volume, model, exact).probs

    parts = [segment(volume, model, replace(exact, axes=axis)).probs for axis in "zyx"]
    expected = (parts[0] + 0.25 * parts[1] + 0.25 * parts[2]) / 1.5
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = segment(volume, model, replace(exact, fuse="mean")).probs
    np.testing.assert_allclose(plain, np.mean(parts, axis=0), atol=1e-6)


def test_several_bundles_count_by_their_sources(exact):
    flat = small_model(dims=2, axes="zy", fusion={"z": [1.0, 1.0], "y": [0.0, 0.0]})
    deep = small_model(dims=3, seed=1)
    volume = noise_volume((16, 18, 20))

    both = segment(volume, [flat, deep], exact).probs

    alone = [
        segment(volume, flat, replace(exact, axes="z")).probs,
        segment(volume, deep, exact).probs,
    ]
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-6)
    other = replace(deep, classes=("class0", "nucleus"))
    with pytest.raises(ConfigError, match="differ from those of"):
        segment(volume, [flat, other], exact)


def test_weights_of_axes_that_all_count_nothing_are_refused(exact):
    model = small_model(dims=2, axes="zyx", fusion=WEIGHTS)
    options = replace(exact, fuse="learned", axes="x")

    with pytest.raises(ConfigError, match="leave out every source along x"):
        segment(noise_volume((16, 18, 20)), model, options)


@pytest.mark.parametrize(("dims", "axis"), [(3, None), (2, "z"), (2, "y")])
def test_views_are_undone(dims, axis):
    array = np.arange(2 * 3 * 5 * 5, dtype=np.float32).reshape(2, 3, 5, 5)
    views = symmetric_views(Spacing(0.2, 0.1, 0.1), axis)

    for view in views:
        turned = view.turn(array)
        assert turned.shape[1:] == view.shape((3, 5, 5))
        back = view.turn_back(torch.from_numpy(turned.copy()))
        np.testing.assert_array_equal(back, array)
        roi = Roi((0, 1, 2), (2, 4, 5))
        assert view.origin(view.seen(roi, (3, 5, 5)), (3, 5, 5)) == roi
    # 8 flips and a turn in 3D; 4 and a turn within z; 4 within y, whose edges differ.
    assert len(views) == {None: 16, "z": 8, "y": 4}[axis]


def test_a_symmetric_answer_comes_of_all_views():
    model = small_model(dims=2, core=64, halo=32)
    volume = noise_volume((3, 16, 16))
    options = SegmentOptions(tta=True, probs=True, precision="float32")
    flipped = volume.with_array(np.ascontiguousarray(volume.array[:, ::-1]))

    one = segment(volume, model, options).probs
    other = segment(flipped, model, options).probs

    np.testing.assert_allclose(one, other[:, :, ::-1], atol=1e-5)
    plain = segment(volume, model, SegmentOptions(probs=True)).probs
    assert np.abs(one - plain).max() > 1e-3


@pytest.mark.parametrize("classes", [2, 4])
def test_labels_written_over_the_sums_are_those_of_the_mean(classes):
    rng = np.random.default_rng(0)
    answers = torch.from_numpy(
        rng.dirichlet(np.ones(classes), (3, 9, 10, 11)).astype(np.float32)
    ).movedim(-1, 1)
    fuser = Fuser(Fusion(), 3, classes, (9, 10, 11))

    for index, probs in enumerate(answers):
        fuser.add(index, Roi.whole((9, 10, 11)), probs.contiguous())

    np.testing.assert_allclose(fuser.probs(), answers.mean(0), atol=1e-6)
    expected = labels_of(answers.mean(0))
    assert torch.equal(fuser.labels(), expected)

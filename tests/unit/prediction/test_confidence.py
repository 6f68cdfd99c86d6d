"""A temperature changes probabilities, never labels; sums give an expected Dice."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from small_models import noise_volume, small_model, whole_pass

from cellseg3d.bundle.confidence import Confidence
from cellseg3d.metrics.expected_dice import fit_dice_line
from cellseg3d.prediction import pipeline as pipeline_module
from cellseg3d.prediction import tally
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.output.blockwise import sidecar
from cellseg3d.prediction.segment import segment, segment_to_file
from cellseg3d.prediction.tally import Tally

HEAT = 2.5
LINE = fit_dice_line([0.6, 0.7, 0.8, 0.9], [0.55, 0.66, 0.72, 0.85], "abcd")


def confident(model, heat=HEAT):
    lines = dict.fromkeys(model.classes[1:], LINE)
    measured = {"ece": [0.1, 0.02], "nll": [0.5, 0.4], "volumes": ["a"]}
    known = Confidence(heat, lines, {"temperature": heat, **measured})
    return replace(model, confidence=known)


def options(**more):
    return SegmentOptions(precision="float32", probs=True, uncertainty=True, **more)


@pytest.mark.parametrize("acceleration", ["off", "auto"])
@pytest.mark.parametrize("classes", [2, 3])
def test_one_source_has_the_softmax_of_divided_logits(classes, acceleration):
    model = small_model(classes=classes, core=16, halo=32)
    volume = noise_volume((9, 30, 21))
    wanted = options(acceleration=acceleration)

    found = segment(volume, confident(model), wanted)
    before = segment(volume, model, wanted)

    logits = whole_pass(model, volume)
    expected = softmax(logits / HEAT, axis=0)
    np.testing.assert_allclose(found.probs, expected, atol=2e-5)
    np.testing.assert_array_equal(found.labels.array, before.labels.array)
    entropy = -(expected * np.log(expected)).sum(0) / np.log(classes)
    np.testing.assert_allclose(found.uncertainty, entropy, atol=2e-4)
    assert np.abs(found.probs - before.probs).max() > 0.05
    assert found.provenance["temperature"] == HEAT
    assert found.provenance["models"][0]["confidence"]["ece"] == [0.1, 0.02]
    assert "temperature" not in before.provenance


@pytest.mark.parametrize("classes", [2, 3])
def test_fused_axes_are_raised_to_a_power_at_the_end(classes):
    model = small_model(dims=2, classes=classes, axes="zyx")
    volume = noise_volume((20, 24, 18))

    found = segment(volume, confident(model), options())
    before = segment(volume, model, options())

    power = np.maximum(before.probs, 2.0**-16) ** (1 / HEAT)
    np.testing.assert_allclose(found.probs, power / power.sum(0), atol=2e-5)
    np.testing.assert_array_equal(found.labels.array, before.labels.array)
    # How far sources disagree has nothing to do with how certain they are together.
    np.testing.assert_array_equal(found.uncertainty, before.uncertainty)


@pytest.mark.parametrize(
    "other", [{"axes": "zx"}, {"tta": True}, {"fuse": "product"}, {"calibrated": False}]
)
def test_another_way_to_predict_keeps_its_probabilities(other):
    model = small_model(dims=2, axes="zyx")
    volume = noise_volume((20, 24, 18))

    found = segment(volume, confident(model), options(**other))
    before = segment(volume, model, options(**other))

    np.testing.assert_array_equal(found.probs, before.probs)
    expects = found.expected_dice is not None
    assert expects == ("calibrated" in other)


@pytest.mark.parametrize("axes", ["z", "zyx"])
def test_the_sums_are_those_over_every_second_voxel(axes, monkeypatch):
    monkeypatch.setattr(tally, "COUNTED", 20 * 24 * 18 // 8)
    monkeypatch.setattr(Tally, "of", classmethod(lambda cls, shape: cls((2, 2, 2))))
    monkeypatch.setattr(pipeline_module, "CHUNK_VOXELS", 2**10)
    model = confident(small_model(dims=2, classes=3, axes=axes))
    volume = noise_volume((20, 24, 18))

    found = segment(volume, model, options())

    some = found.probs[:, ::2, ::2, ::2]
    best = some.argmax(0)
    assert best.max() > 0
    for value, name in enumerate(model.classes[1:], start=1):
        here = best == value
        soft = 2 * some[value][here].sum() / (here.sum() + some[value].sum())
        row = found.expected_dice["classes"][name]
        if not here.any():
            assert row == {"dice": None, "within": None, "soft": None}
            continue
        assert row["soft"] == pytest.approx(soft, abs=2e-4)
        assert row["dice"] == pytest.approx(LINE.expect(soft)[0], abs=3e-4)
        assert row["within"] == pytest.approx(LINE.expect(soft)[1], abs=3e-3)


def test_the_lattice_counts_few_voxels_and_all_of_a_small_volume():
    assert Tally.of((4, 4, 4), 64).step == (1, 1, 1)
    shape = (130, 500, 333)
    step = Tally.of(shape).step
    counted = np.prod([-(-n // s) for n, s in zip(shape, step, strict=True)])
    assert tally.COUNTED / 4 < counted <= tally.COUNTED


def test_a_stopped_prediction_expects_what_an_unbroken_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_module, "CHUNK_VOXELS", 2**11)
    monkeypatch.setattr(pipeline_module, "ROWS_VOXELS", 2**11)
    model = confident(small_model(core=8, halo=16))
    volume = noise_volume((24, 24, 24))
    whole = segment_to_file(volume, model, tmp_path / "whole.tif", options())

    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_to_file(volume, model, tmp_path / "part.tif", options(), progress=stop)
    part = segment_to_file(volume, model, tmp_path / "part.tif", options())

    first, second = (
        json.loads(sidecar(path).read_text(encoding="utf-8"))["segmentation"]
        for path in (whole, part)
    )
    assert first["expected_dice"] == second["expected_dice"]
    assert first["expected_dice"]["classes"]["class1"]["dice"] > 0
    in_memory = segment(volume, model, options()).expected_dice
    assert first["expected_dice"] == in_memory


def test_a_volume_unlike_the_training_gets_no_figure():
    model = confident(small_model(core=16, halo=16))
    far = {
        "names": ["brightness_50"],
        "mean": [9.0],
        "covariance": [[0.0]],
        "limit": 1.1,
        "volumes": 1,
    }

    found = segment(noise_volume((9, 20, 20)), replace(model, likeness=far), options())

    assert list(found.expected_dice) == ["untrusted"]
    assert (
        "its grey values are distributed differently"
        in (found.expected_dice["untrusted"])
    )

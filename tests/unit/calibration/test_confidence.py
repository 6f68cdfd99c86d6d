"""After a training the temperature stands in the run, and prediction reads it."""

import json

import numpy as np
import pytest
from small_models import noise_volume, small_model

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.confidence import store_confidence
from cellseg3d.bundle.model import load_model
from cellseg3d.calibration.confidence import (
    Answered,
    LabelledVolume,
    answers_of,
    calibrate_bundle,
    fit_confidence,
)
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.temperature import known_errors, likelihood_loss
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.runs.options import TrainOptions
from cellseg3d.training.train import train

TINY = {
    "train::dataset::samples": 8,
    "network_def::channels": [4, 8],
    "spec::patch_shape": [8, 8, 8],
    "val_interval": 2,
}


@pytest.fixture(scope="module")
def run(larger, tmp_path_factory):
    wanted = TrainOptions(epochs=2, seed=7, device="cpu", progress=False, settings=TINY)
    place = tmp_path_factory.mktemp("confidence") / "run"
    return train("cell_tomo_unet3d", larger, place, wanted)


def test_a_training_ends_with_a_temperature_in_its_record(run):
    found = json.loads((run / "run.json").read_text(encoding="utf-8"))["confidence"]
    stored = read_config(run / "configs" / "metadata.json")["confidence"]

    assert stored == found
    assert load_model(run).confidence.temperature == found["temperature"] != 1.0
    before, after = found["nll"]
    assert after < before
    assert found["volumes"] == ["ball0"]
    assert known_errors(found)[0].startswith("logits are divided by ")


def test_measuring_it_again_finds_the_same(run, larger):
    known = load_model(run).confidence.measured
    store_confidence(run, None)
    assert load_model(run).confidence is None

    found = calibrate_bundle(run)

    assert found == known
    assert load_model(run).confidence.measured == found


def test_a_training_from_this_one_does_not_inherit_it(run, larger, tmp_path):
    wanted = TrainOptions(
        epochs=1,
        device="cpu",
        progress=False,
        settings=TINY,
        calibrate=False,
        pretrained=run / "models" / "model.safetensors",
    )

    second = train(run, larger, tmp_path / "second", wanted)

    assert load_model(run).confidence is not None
    assert load_model(second).confidence is None


def test_a_broken_entry_is_refused_with_the_way_out(run):
    known = load_model(run).confidence.measured
    for wrong in ({"temperature": 0}, {"temperature": "hot"}, [], {"dice": {}}):
        store_confidence(run, {**known, **wrong} if wrong else {"dice": {}})
        if not wrong or wrong.get("temperature") is not None:
            with pytest.raises(ConfigError, match="bundle calibrate"):
                load_model(run)
    store_confidence(run, known)


@pytest.mark.parametrize("axes", ["z", "zyx"])
def test_answers_are_those_of_prediction(axes):
    model = small_model(dims=2, classes=3, axes=axes)
    volume = noise_volume((12, 20, 16))
    truth = np.random.default_rng(0).integers(0, 3, volume.shape).astype(np.uint8)
    truth[:3] = 255

    [found] = answers_of(model, [LabelledVolume("a", "g", volume, truth)])

    whole = segment(volume, model, SegmentOptions(probs=True))
    known = truth != 255
    probs = np.exp(found.scores - found.scores.max(0))
    probs /= probs.sum(0)
    # Regions come in another order than voxels, so each class is sorted by itself.
    expected = np.sort(whole.probs[:, known], axis=1)
    np.testing.assert_allclose(np.sort(probs, axis=1), expected, atol=1e-4)
    labels = whole.labels.array
    for value in range(3):
        here, there = (labels == value) & known, truth == value
        dice = 2 * (here & there).sum() / (here.sum() + there.sum())
        assert found.dice[value] == pytest.approx(dice)


def test_errors_after_are_of_volumes_that_were_left_out_of_the_fit():
    rng = np.random.default_rng(0)

    def answer(name, factor):
        logits = rng.normal(0, 2, (2, 4000))
        right = rng.uniform(size=4000) < 1 / (1 + np.exp(logits[0] - logits[1]))
        dice = np.array([0.9, 0.8])
        scores = (logits * factor).astype(np.float32)
        return Answered(name, name, scores, right.astype(np.uint8), dice)

    answers = [answer("a", 4.0), answer("b", 1.0)]
    found = fit_confidence(answers, ("background", "cell"))

    # Each volume gets the temperature of the other: 4 becomes 4 / 1, 1 becomes 1 / 4.
    losses = [
        likelihood_loss(answers[0].scores, answers[0].truth, 1.0),
        likelihood_loss(answers[1].scores, answers[1].truth, 4.0),
    ]
    assert found["nll"][1] == pytest.approx(np.mean(losses), abs=0.01)
    assert 1.0 < found["temperature"] < 4.0
    assert found["dice"]["cell"]["mean"] == pytest.approx(0.8)
    assert found["dice"]["cell"]["error"] is None


def test_volumes_without_annotation_are_refused():
    nothing = Answered("a", "a", np.zeros((2, 0)), np.zeros(0), np.array([0.0, 0.0]))

    with pytest.raises(ConfigError, match="keep a labelled specimen back"):
        fit_confidence([nothing], ("background", "cell"))


def test_labels_follow_a_resampled_volume():
    model = small_model(classes=2, core=16, halo=16)
    volume = noise_volume((10, 10, 10), spacing=(0.2, 0.2, 0.2))
    truth = np.zeros(volume.shape, np.uint8)
    truth[:5] = 1
    trained = Spacing(0.1, 0.1, 0.1)
    scaled = model.__class__(
        **{**vars(model), "resampled": True, "spacing_um": trained}
    )

    [found] = answers_of(scaled, [LabelledVolume("a", "a", volume, truth)])

    assert found.scores.shape == (2, 20**3)
    assert found.truth.mean() == pytest.approx(0.5)

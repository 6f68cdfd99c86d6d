"""After a training, halo and threshold of emptiness stand in the run, measured."""

import json

import numpy as np
import pytest

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.calibration import window
from cellseg3d.calibration.halo import BOUND, verify_seams
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.emptiness import MARGIN, empty_threshold
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.datasets.volumes import LoadedCase
from cellseg3d.io.registry import open_volume
from cellseg3d.prediction.lattice import WindowSettings
from cellseg3d.runs.options import TrainOptions
from cellseg3d.training.train import resume, train

FILES = ("train", "inference", "evaluate")
TINY = {
    "train::dataset::samples": 8,
    "network_def::channels": [4, 8],
    "spec::patch_shape": [8, 8, 8],
    "val_interval": 2,
}


def options(calibrate=True, **settings):
    return TrainOptions(
        epochs=2,
        seed=7,
        device="cpu",
        precision="float32",
        progress=False,
        settings={**TINY, **settings},
        calibrate=calibrate,
    )


def windows(run):
    return [read_config(run / "configs" / f"{name}.json")["window"] for name in FILES]


@pytest.fixture(scope="module")
def run(larger, tmp_path_factory):
    return train(
        "cell_tomo_unet3d", larger, tmp_path_factory.mktemp("r") / "run", options()
    )


def test_a_training_ends_with_a_measured_halo_in_all_configs(run, larger):
    model = load_model(run)
    volume = open_volume(larger.parent / "ball0.mrc")

    seams = verify_seams(volume, model)

    trained, inferred, scored = windows(run)
    assert trained == inferred == scored == dict(model.window)
    assert 0 <= inferred["halo_error"] <= BOUND
    assert WindowSettings.parse(model.window, model.spec).halo == tuple(
        inferred["halo"]
    )
    assert seams[0].difference <= BOUND


def test_the_record_says_what_was_measured_and_on_which_volumes(run):
    record = json.loads((run / "run.json").read_text())
    found = record["calibration"]

    assert record["state"] == "completed"
    assert found["volumes"] == record["data"]["validation"]
    assert found["notes"] == []
    stored = windows(run)[1]
    for key in ("halo", "halo_error", "empty_below"):
        assert found[key] == stored[key]


def test_a_halo_that_was_given_stays(balls, tmp_path):
    given = options(window={"halo": [4, 4, 4]})

    run = train("cell_tomo_unet3d", balls, tmp_path / "run", given)

    stored = windows(run)
    assert all(each["halo"] == [4, 4, 4] for each in stored)
    assert all("halo_error" not in each for each in stored)


def test_without_calibration_the_window_is_as_it_was(balls, tmp_path):
    run = train("cell_tomo_unet3d", balls, tmp_path / "run", options(calibrate=False))

    assert windows(run) == [{}, {}, {}]
    assert "calibration" not in json.loads((run / "run.json").read_text())
    resume(run, TrainOptions(progress=False))
    assert all(each["empty_below"] > -1.5 for each in windows(run))


def test_norms_that_see_the_window_are_noted_not_calibrated(balls, tmp_path):
    run = train(
        "cell_tomo_unet3d",
        balls,
        tmp_path / "run",
        options(**{"network_def::norm": "instance"}),
    )

    [note] = json.loads((run / "run.json").read_text())["calibration"]["notes"]
    assert "normalisation depends on the whole window" in note
    assert "halo" not in windows(run)[1]


def test_a_fault_in_calibration_becomes_a_note(balls, tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise ConfigError("no halo up to 96 voxels")

    monkeypatch.setattr(window, "calibrate_halo", never)

    run = train("cell_tomo_unet3d", balls, tmp_path / "run", options())

    record = json.loads((run / "run.json").read_text())
    assert record["state"] == "completed"
    assert record["calibration"]["notes"] == [
        "the halo was not calibrated: no halo up to 96 voxels"
    ]
    assert "halo" not in windows(run)[1]


def loaded(image, label, scale=None):
    chosen = scale or IntensityScale("range", 0, 10)
    return LoadedCase(
        "case", image, label, chosen, 5.0, 0.2, Spacing(1, 1, 1), content=""
    )


def test_the_threshold_is_the_darkest_block_that_holds_foreground():
    image = np.zeros((16, 8, 8), np.float32)
    label = np.zeros(image.shape, np.uint8)
    image[:8, 4, 4], label[:8, 4, 4] = 9.0, 1
    image[8:, 4, 4], label[8:, 4, 4] = 6.0, 2

    found = empty_threshold([loaded(image, label)], side=8)

    # (6 - 5) * 0.2 is what the darker block reaches.
    assert found == pytest.approx(0.2 - MARGIN)


def test_what_is_not_annotated_sets_no_threshold():
    image = np.full((8, 8, 8), 1.0, np.float32)
    label = np.full(image.shape, 255, np.uint8)

    assert empty_threshold([loaded(image, label), loaded(image, None)]) is None

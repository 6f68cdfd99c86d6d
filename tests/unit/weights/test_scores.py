"""Scores of changed volumes say what each change costs a network of a known rule."""

from pathlib import Path

import numpy as np
import pytest
from threshold_network import Threshold

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import write_datalist
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.weights import scores
from cellseg3d.weights.recipe import Source, WeightsRecipe
from cellseg3d.weights.scores import robustness
from cellseg3d.weights.training import Part

SHAPE = (9, 20, 20)


@pytest.fixture
def datalist(tmp_path):
    """A test volume, half of it foreground and brighter."""
    label = np.zeros(SHAPE, np.uint8)
    label[:, :, 10:] = 1
    files = [str(tmp_path / name) for name in ("set_a.tif", "set_a_label.tif")]
    write_volume(Path(files[0]), Volume((50 + 100 * label).astype(np.uint8)))
    write_labels(Path(files[1]), Volume(label))
    path = tmp_path / "datalist.json"
    case = Case("set_a", *files, "set_a", "test")
    classes = ("background", "cell")
    write_datalist(Datalist("toy", classes, None, (case,), path=path), path)
    return path


@pytest.fixture
def part(tmp_path, monkeypatch):
    """A training whose network labels what is brighter than 100."""
    (tmp_path / "final" / "models").mkdir(parents=True)
    (tmp_path / "final" / "models" / "model.safetensors").touch()
    model = TrainedModel(
        name="toy",
        path=tmp_path,
        network=Threshold(threshold=0.0).eval(),
        spec=InputSpec(3, (8, 8, 8)),
        classes=("background", "cell"),
        intensity=IntensityScale(mode="range", lower=0, upper=200),
        spacing_um=None,
        window={"halo": [0, 0, 0]},
        sha256="",
    )
    monkeypatch.setattr(scores, "model_of", lambda _part, _recipe: model)
    return Part("final", None, tmp_path / "final", 1)


def recipe(*transforms):
    settings = {"train::random_transforms": [{"_target_": each} for each in transforms]}
    sources = (Source("set", test=True),)
    return WeightsRecipe("toy", ("background", "cell"), sources, settings=settings)


def test_each_change_has_a_row_and_costs_what_the_rule_makes_it_cost(datalist, part):
    inverts = recipe("cellseg3d.samples.augment.RandInvertd")

    rows = robustness(inverts, [part], datalist)

    dice = {row["shift"]: row["mean"] for row in rows}
    assert {(row["class"], row["metric"], row["n"]) for row in rows} == {
        ("cell", "dice", 1)
    }
    assert dice["none"] == dice["uneven light"] == 1.0
    # Of 13 larger voxels a row, the middle one lies on the border: its mean is 100.
    assert dice["larger voxels"] == pytest.approx(2 * 6 / (6 + 7), abs=0.001)
    assert dice["inverted"] == 0.0
    # Noise of 20 grey values passes the threshold, 50 away, in 0.6 % of the voxels.
    assert 0.98 < dice["noise"] < 1.0
    # The lost slice has the mean, 100, and 100 is no foreground.
    assert dice["missing slices"] == pytest.approx(2 * 8 / (8 + 9), abs=0.001)


def test_nothing_is_inverted_where_the_modality_has_one_sign(datalist, part):
    rows = robustness(recipe(), [part], datalist)

    assert "inverted" not in {row["shift"] for row in rows}

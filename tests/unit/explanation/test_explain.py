"""What an attribution names matters more to the network than other voxels do."""

import json
import sys

import numpy as np
import pytest
import torch
from small_models import noise_volume, small_model, whole_pass

from cellseg3d.core.errors import (
    ConfigError,
    EnvironmentFault,
    InputError,
    LabelError,
)
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.explanation.attribution import blurred, cube_of
from cellseg3d.explanation.crop import crop_around, limits_of
from cellseg3d.explanation.explain import (
    ExplainOptions,
    explain,
    paths_of,
    write_explanation,
)
from cellseg3d.explanation.subject import object_of, piece_at
from cellseg3d.io.registry import open_volume
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.setup import set_up

pytest.importorskip("captum")
PLAIN = SegmentOptions(acceleration="off", device="cpu")
KINDS = [(3, 0, "z"), (2, 0, "z"), (2, 2, "y"), (2, 1, "zyx")]


def ball(shape=(20, 32, 32), centre=(9, 14, 17), radius=6):
    grid = np.indices(shape)
    apart = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
    return (apart < radius**2).astype(np.uint8)


def case(kind, seed=0):
    """A bright ball in noise, its labels, and a network that was taught to see it."""
    dims, context, axes = kind
    truth = ball()
    noise = noise_volume(truth.shape, seed)
    volume = Volume(noise.array + 60 * truth, Spacing(0.1, 0.1, 0.1))
    window = {"core": 16, "halo": 16} if dims == 3 else {"axes": axes}
    model = small_model(dims, context, **window)
    teach(model, volume, truth)
    return volume, Volume(truth, volume.spacing), model


def teach(model, volume, truth, steps=60):
    """Train a network on one volume, through the crop that explanations use."""
    labels = Volume(truth, volume.spacing)
    pipeline = set_up(volume, [model], PLAIN)
    subject = object_of(labels, 1, limits_of(pipeline))
    crop = crop_around(pipeline, subject, truth.shape)
    network = pipeline.sources[0].network.network
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    inner = crop.box.clip(truth.shape)
    place = (slice(None), *inner.within(crop.box).slices)
    target = torch.from_numpy(truth[inner.slices].astype(np.int64))
    for _ in range(steps):
        optimizer.zero_grad()
        logits = crop.logits(crop.image, pipeline.sources[0])[place]
        torch.nn.functional.cross_entropy(logits[None], target[None]).backward()
        optimizer.step()
    model.network.load_state_dict(network.state_dict())


@pytest.mark.parametrize("kind", [*KINDS[:2], (2, 2, "z")])
def test_the_crop_answers_as_prediction_does(kind):
    dims, context, axes = kind
    window = {"core": 16, "halo": 16} if dims == 3 else {"axes": axes[0]}
    model = small_model(dims, context, **window)
    volume = noise_volume((20, 32, 32))
    pipeline = set_up(volume, [model], PLAIN)
    subject = object_of(Volume(ball(), volume.spacing), 1, limits_of(pipeline))

    crop = crop_around(pipeline, subject, (64, 320, 320))

    found = crop.logits(crop.image, pipeline.sources[0]).detach().numpy()
    inner = subject.box.within(crop.box).slices
    expected = whole_pass(model, volume)[(slice(None), *subject.box.slices)]
    np.testing.assert_allclose(found[(slice(None), *inner)], expected, atol=1e-4)


@pytest.mark.parametrize(
    "kind", [*KINDS[:3], pytest.param(KINDS[3], marks=pytest.mark.slow)]
)
def test_without_the_named_voxels_the_score_falls_more(kind):
    volume, labels, model = case(kind)

    found = explain(volume, model, object_id=1, labels=labels)

    record = found.record
    assert record["class"] == "class1"
    assert record["share_of_class"] > 0.9
    whole = int(labels.read().sum())
    # Of slices, nine are explained at most; the ball has eleven.
    assert record["cut"] == (kind[0] == 2 and len(kind[2]) == 1)
    assert 0.9 * whole < record["voxels"] <= whole
    tested = record["deletion"]
    assert tested["holds"]
    for row in tested["rows"]:
        assert row["fall"] > row["fall_random"] + 0.1
    inside = labels.read()[found.box.clip(volume.shape).slices] > 0
    part = found.box.clip(volume.shape).within(found.box).slices
    # What raises the score lies in the ball and at its border.
    assert np.abs(found.attribution[part])[inside].mean() > (
        1.5 * np.abs(found.attribution[part])[~inside].mean()
    )
    assert found.occlusion.max() > 0
    best = max(found.filters, key=lambda each: each.contrast)
    assert best.contrast > 1
    assert found.picture.size[0] > 1000


def test_integrated_gradients_sum_to_the_difference_of_the_scores():
    volume, labels, model = case(KINDS[0])
    pipeline = set_up(volume, [model], PLAIN)
    subject = object_of(labels, 1, limits_of(pipeline))
    crop = crop_around(pipeline, subject, limits_of(pipeline))

    found = explain(volume, model, object_id=1, labels=labels)

    with torch.no_grad():
        whole = float(crop.score(crop.image, 1))
        none = float(crop.score(blurred(crop.image), 1))
    assert found.record["deletion"]["score"] == pytest.approx(whole, abs=1e-3)
    # 16 points approximate the integral.
    assert found.attribution.sum() == pytest.approx(whole - none, rel=0.15)


def test_an_attribution_of_nothing_does_not_pass(monkeypatch):
    volume, labels, model = case(KINDS[1])
    name = "cellseg3d.explanation.explain.attribution"

    def reversed_one(crop, value, method):
        inside = crop.inside.numpy().astype(np.float32)
        return -inside

    monkeypatch.setattr(name, reversed_one)

    found = explain(volume, model, object_id=1, labels=labels)

    assert not found.record["deletion"]["holds"]


def test_the_files_have_the_grid_of_the_volume(tmp_path):
    volume, labels, model = case(KINDS[1])
    options = ExplainOptions("gradient-x-input", top=1)
    found = explain(volume, model, point=(9, 14, 17), labels=labels, options=options)
    place = tmp_path / "a_labels.tif"

    paths = write_explanation(found, volume, place)

    assert paths == paths_of("object at 9 14 17", place)
    picture, record, attributed = paths
    assert picture.name == "a_explain_object_at_9_14_17.png"
    assert picture.stat().st_size > 1000
    known = json.loads(record.read_text(encoding="utf-8"))
    assert known["method"] == "gradient-x-input"
    layers = [row["layer"] for row in known["filters"]]
    assert len(layers) == len(set(layers)) > 1
    read = open_volume(attributed)
    assert (read.shape, read.dtype) == (volume.shape, np.float32)
    assert read.spacing.is_close(volume.spacing)
    inner = found.box.clip(volume.shape)
    part = found.attribution[inner.within(found.box).slices]
    np.testing.assert_array_equal(read.read(inner), part)
    with pytest.raises(ConfigError, match="overwrite"):
        write_explanation(found, volume, place)


def test_an_object_that_is_predicted_is_found_at_a_place():
    volume, labels, model = case(KINDS[0])

    found = explain(volume, model, point=(9, 14, 17))

    here = labels.read() > 0
    assert found.record["voxels"] == pytest.approx(int(here.sum()), rel=0.25)
    with pytest.raises(ConfigError, match="is background"):
        explain(volume, model, point=(0, 0, 0))


def test_a_large_object_is_cut_around_its_middle():
    values = np.zeros((4, 100, 120), np.uint8)
    values[1:3, 5:95, 10:110] = 3
    labels = Volume(values, None)

    subject = object_of(labels, 3, (4, 32, 32))

    assert subject.cut
    assert subject.box == Roi((1, 34, 44), (3, 66, 76))
    assert subject.mask.all()
    assert not object_of(labels, 3, (4, 100, 120)).cut


def test_the_piece_at_a_place_is_connected():
    values = np.zeros((1, 20, 20), np.uint8)
    values[0, 2:6, 2:6] = 1
    values[0, 12:18, 12:18] = 1

    subject = piece_at(Volume(values, None), (0, 13, 13), (1, 20, 20))

    assert subject.box == Roi((0, 12, 12), (1, 18, 18))
    assert subject.mask.sum() == 36


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({}, ConfigError, "give one of `object_id` and `point`"),
        ({"object_id": 1, "point": (0, 0, 0)}, ConfigError, "give one of"),
        ({"object_id": 1}, ConfigError, "no `labels` that hold it"),
        ({"point": (99, 0, 0)}, ConfigError, "lies outside"),
    ],
)
def test_what_cannot_be_explained_is_refused(given, error, says):
    model = small_model(core=16, halo=16)

    with pytest.raises(error, match=says):
        explain(noise_volume((8, 16, 16)), model, **given)


def test_labels_that_do_not_fit_are_refused():
    model, volume = small_model(core=16, halo=16), noise_volume((8, 16, 16))
    small = Volume(np.zeros((4, 4, 4), np.uint8), None)
    empty = Volume(np.zeros(volume.shape, np.uint8), None)

    with pytest.raises(LabelError, match="give the labels of this volume"):
        explain(volume, model, object_id=1, labels=small)
    with pytest.raises(InputError, match="holds no object 5"):
        explain(volume, model, object_id=5, labels=empty)
    with pytest.raises(ConfigError, match="`method` is 'magic'"):
        ExplainOptions("magic")


def test_a_missing_captum_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)

    with pytest.raises(EnvironmentFault, match=r"needs captum.*pip install"):
        explain(noise_volume((8, 16, 16)), small_model(), point=(1, 1, 1))


def test_few_cubes_fill_a_crop():
    assert cube_of([1, 64, 64]) == (1, 8, 8)
    assert cube_of([2, 2, 2]) == (1, 1, 1)

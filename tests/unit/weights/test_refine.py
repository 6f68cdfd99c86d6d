"""Trainings that begin with the weights that a bundle ships."""

import json
from dataclasses import replace

import pytest

from cellseg3d.core.errors import ConfigError
from cellseg3d.runs.options import TrainOptions
from cellseg3d.weights import make, training
from cellseg3d.weights.make import MakeOptions, make_weights
from cellseg3d.weights.recipe import WeightsRecipe
from cellseg3d.weights.record import _before
from cellseg3d.weights.training import Part, train_part

RECIPE = WeightsRecipe(
    name="cell_tomo_unet3d",
    simulated={"cells": 1, "validation": 1, "test": 1},
    steps=1500,
    refine_steps=40,
    settings={
        "optimizer::lr": 0.003,
        "train::dataset::samples": 8,
        "train::dataloader::batch_size": 4,
    },
)


def test_a_refining_training_is_short_slow_and_begins_with_the_shipped_weights(
    tmp_path, monkeypatch
):
    bundle = tmp_path / "bundle"
    (bundle / "models").mkdir(parents=True)
    (bundle / "models" / "model.safetensors").write_bytes(b"shipped")
    taken = {}

    def train_part_(part, recipe, bundle, datalist, options):
        taken.update(part=part, recipe=recipe, options=options)

    monkeypatch.setattr(make, "read_recipe", lambda configs, name: RECIPE)
    monkeypatch.setattr(make, "find_bundle", lambda name: bundle)
    monkeypatch.setattr(make, "prepare", lambda recipe, data, out: tmp_path / "d.json")
    monkeypatch.setattr(make, "train_part", train_part_)
    out = tmp_path / "out"
    assert make_weights("cell_tomo_unet3d", out, None, MakeOptions(refine=True)) is None
    assert taken["part"].steps == 40
    assert taken["recipe"].settings["optimizer::lr"] == 0.001
    first = taken["options"].pretrained
    assert first.read_bytes() == b"shipped"
    # It goes on with the same weights when the bundle has got others meanwhile.
    (bundle / "models" / "model.safetensors").write_bytes(b"new")
    make_weights("cell_tomo_unet3d", out, None, MakeOptions(refine=True))
    assert taken["options"].pretrained.read_bytes() == b"shipped"


def test_the_training_is_given_the_weights_and_the_steps(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(training, "train", lambda *args: given.append(args))
    part = Part("final", None, tmp_path / "final", 40)
    options = TrainOptions(pretrained=tmp_path / "first.safetensors")
    train_part(part, RECIPE, tmp_path, tmp_path / "d.json", options)
    assert given[0][3].pretrained == tmp_path / "first.safetensors"
    assert given[0][3].epochs == 20


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (replace(RECIPE, leave_out="specimen"), "each specimen that they have seen"),
        (RECIPE, "ships no weights to begin with"),
    ],
)
def test_what_cannot_be_refined_is_refused(tmp_path, recipe, words):
    with pytest.raises(ConfigError, match=words):
        make._first_weights(recipe, tmp_path / "bundle", tmp_path / "out")


def test_the_record_keeps_the_trainings_before_once(tmp_path):
    path = tmp_path / "record.json"
    first = {"part": "final", "steps": 9}
    now = [{"part": "final", "steps": 3}]
    path.write_text(json.dumps({"trainings": [first]}))
    rows = _before(path, now)
    assert rows == [{"part": "before, final", "steps": 9}]
    # Scored again, the same training is still named once.
    path.write_text(json.dumps({"trainings": rows + now}))
    assert _before(path, now) == rows

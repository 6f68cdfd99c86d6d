"""Prepared data hold what the recipe says of each volume, and each volume once."""

import json

import numpy as np
import pytest
import yaml

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import read_labels, read_volume, write_labels, write_volume
from cellseg3d.weights import prepare as preparing
from cellseg3d.weights.prepare import prepare
from cellseg3d.weights.recipe import Source, WeightsRecipe, read_recipe

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (4, 12, 8), np.uint8)
LABEL = RANDOM.integers(0, 4, (4, 12, 8), np.uint8)


@pytest.fixture
def data(tmp_path):
    """One data set of two volumes of voxels of 40, 10 and 10 nm."""
    folder = tmp_path / "given"
    folder.mkdir()
    rows = []
    for name in ("a", "b"):
        write_volume(folder / f"{name}.tif", Volume(IMAGE))
        write_labels(folder / f"{name}_label.tif", Volume(LABEL))
        files = {"image": f"{name}.tif", "label": f"{name}_label.tif"}
        row = {"dataset": "set", "volume": name, "spacing_nm": [40, 10, 10]}
        rows.append(row | files)
    (folder / "manifest.json").write_text(json.dumps(rows))
    return folder


def prepared(tmp_path, data, **values):
    recipe = WeightsRecipe("toy", ("background", "cell"), **values)
    return load_datalist(prepare(recipe, data, tmp_path / "toy" / "data"))


def test_parts_of_a_volume_train_and_test_and_share_no_voxel(tmp_path, data):
    sources = (
        Source("set", part=("y", 0.0, 0.66), name="training"),
        Source("set", part=("y", 0.66, 1.0), name="test", test=True),
    )

    cases = prepared(tmp_path, data, sources=sources).cases

    assert {case.name: case.split for case in cases} == {
        "training_a": None,
        "training_b": None,
        "test_a": "test",
        "test_b": "test",
    }
    parts = [read_volume(case.image).read() for case in (cases[0], cases[2])]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), IMAGE)


def test_labels_are_mapped_and_values_without_a_class_become_background(tmp_path, data):
    sources = (Source("set", label_map={2: 1}),)

    [first, _] = prepared(tmp_path, data, sources=sources).cases

    np.testing.assert_array_equal(read_labels(first.label).read(), LABEL == 2)


def test_proportions_are_no_spacing_and_volumes_stay_as_they_are(tmp_path, data):
    sources = (Source("set", spacing_known=False),)

    [first, _] = prepared(
        tmp_path, data, sources=sources, spacing_um=(0.04, 0.02, 0.02)
    ).cases

    assert first.spacing is None
    assert read_volume(first.image).spacing is None
    np.testing.assert_array_equal(read_volume(first.image).read(), IMAGE)


def test_volumes_of_known_spacing_are_brought_to_the_recipes(tmp_path, data):
    [first, _] = prepared(
        tmp_path, data, sources=(Source("set"),), spacing_um=(0.04, 0.02, 0.02)
    ).cases

    assert first.spacing == Spacing(0.04, 0.02, 0.02)
    assert read_volume(first.image).shape == (4, 6, 4)


def recipes_of(tmp_path, monkeypatch, **recipes):
    folder = tmp_path / "configs"
    (folder / "weights").mkdir(parents=True)
    for name, values in recipes.items():
        (folder / "weights" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr(preparing, "configs_dir", lambda: folder)
    return [read_recipe(folder, name) for name in recipes]


def test_two_bundles_share_the_voxels_that_one_of_them_names(
    tmp_path, monkeypatch, data
):
    one = {"sources": [{"dataset": "set"}], "classes": ["background", "cell"]}
    _, two = recipes_of(tmp_path, monkeypatch, one=one, two={"data_of": "one"})

    path = prepare(two, data, tmp_path / "out" / "two" / "data")

    assert path == tmp_path / "out" / "one" / "data" / "two.json"
    images = [case.image for case in load_datalist(path).cases]
    shared = load_datalist(path.with_name("datalist.json")).cases
    assert images == [case.image for case in shared]
    # Moved as a whole, the folder still finds its volumes.
    moved = path.parents[2].rename(tmp_path / "moved") / "one" / "data"
    assert read_volume(load_datalist(moved / "two.json").cases[0].image).shape == (
        4,
        12,
        8,
    )


def test_a_simulated_cell_depends_on_its_number_alone(tmp_path):
    recipe = WeightsRecipe(
        "toy",
        simulated={"cells": 3, "validation": 1, "test": 1},
        spacing_um=(0.2, 0.2, 0.2),
    )
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    first = preparing._simulated_cell(recipe, tmp_path / "one", 2)
    again = preparing._simulated_cell(recipe, tmp_path / "two", 2)
    last = preparing._simulated_cell(recipe, tmp_path / "two", 3)

    assert (first.split, last.split) == ("training", "validation")
    one, two, other = (read_volume(case.image).read() for case in (first, again, last))
    np.testing.assert_array_equal(one, two)
    assert one.shape != other.shape or not np.array_equal(one, other)
    np.testing.assert_array_equal(
        read_labels(first.label).read(), read_labels(again.label).read()
    )

"""Recipes of weights: what they take over, what they refuse, what each is made of."""

import json

import pytest
import yaml

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model_facts import ModelFacts
from cellseg3d.bundle.resolve import build, resolve_config
from cellseg3d.bundle.shipped import configs_dir, find_bundle
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.targets import LabelTarget
from cellseg3d.weights.recipe import WeightsRecipe, read_recipe, recipe_names
from cellseg3d.weights.training import parts_of

NAMES = recipe_names(configs_dir())
# Bytes of all weights that come along, in half precision.
MOST_BYTES = 40 * 2**20


def write_recipes(folder, **recipes):
    (folder / "weights").mkdir(parents=True)
    for name, values in recipes.items():
        (folder / "weights" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder


def network_made_by(name):
    recipe = read_recipe(configs_dir(), name)
    path = find_bundle(name) / "configs" / "train.json"
    config = read_config(path)
    classes = LabelTarget(recipe.target).classes or recipe.classes
    facts = ModelFacts(classes or tuple(config["default_facts"]["classes"]))
    settings = {"facts": facts.as_dict()}
    blocks = resolve_config(path, settings, only=["network_def"])
    return build(blocks["network_def"], path)


def test_data_of_another_bundle_are_taken_over_and_settings_are_not(tmp_path):
    configs = write_recipes(
        tmp_path,
        one={
            "sources": [{"dataset": "d", "label_map": {2: 1}}],
            "classes": ["background", "cell"],
            "leave_out": "dataset",
            "spacing_um": [0.05, 0.01, 0.01],
            "steps": 7,
            "settings": {"optimizer::lr": 1.0},
        },
        two={"data_of": "one", "steps": 9},
    )

    recipe = read_recipe(configs, "two")

    assert recipe.sources[0].label_map == {2: 1}
    assert recipe.classes == ("background", "cell")
    assert (recipe.leave_out, recipe.spacing_um) == ("dataset", (0.05, 0.01, 0.01))
    assert (recipe.steps, dict(recipe.settings)) == (9, {})


def test_what_a_recipe_says_of_its_data_wins_over_the_other_bundle(tmp_path):
    cells = {"simulated": {"cells": 3, "validation": 1, "test": 2}}
    own = {"classes": ["background", "cell"], "label_map": {0: 0, 1: 1, 2: 1}}
    configs = write_recipes(tmp_path, one=cells, two={"data_of": "one", **own})

    recipe = read_recipe(configs, "two")

    assert recipe.classes == ("background", "cell")
    assert recipe.label_map == {0: 0, 1: 1, 2: 1}
    assert recipe.simulated["test"] == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"step": 3}, "unknown key 'step'; did you mean 'steps'"),
        ({"sources": [{"dataset": "d", "tests": True}]}, "unknown key 'tests'"),
        ({"leave_out": "rat"}, "leave_out is 'rat'; expected dataset, specimen"),
        ({"label_map": {1: 1}}, "label_map is for simulated tomograms"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_by_its_file(tmp_path, values, words):
    configs = write_recipes(tmp_path, one=values)

    with pytest.raises(ConfigError, match=words) as caught:
        read_recipe(configs, "one")

    assert str(configs / "weights" / "one.yaml") in str(caught.value)


def test_each_group_is_left_out_once_and_test_cases_never(tmp_path):
    values = {
        "name": "toy",
        "classes": ["background", "cell"],
        "cases": [
            {"name": name, "group": group, "image": f"{name}.tif", "label": "l.tif"}
            | ({"split": "test"} if group == "t" else {})
            for name, group in (("a", "g"), ("b", "g"), ("c", "h"), ("d", "t"))
        ],
    }
    for file in ("a.tif", "b.tif", "c.tif", "d.tif", "l.tif"):
        (tmp_path / file).touch()
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps(values))
    recipe = WeightsRecipe("toy", leave_out="specimen", steps=5, left_out_steps=2)

    parts = parts_of(recipe, path, tmp_path)

    assert [(part.name, part.left_out, part.steps) for part in parts] == [
        ("final", None, 5),
        ("without_g", "g", 2),
        ("without_h", "h", 2),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_names_a_bundle_known_data_and_the_length_of_an_epoch(name):
    recipe = read_recipe(configs_dir(), name)
    known = read_config(configs_dir() / "data_sets.yaml")

    assert find_bundle(name).name == name
    assert {source.dataset for source in recipe.sources} <= set(known)
    assert recipe.sources or recipe.simulated["cells"] > 0
    if recipe.members:
        assert set(recipe.members.values()) <= set(NAMES)
        return
    batch = recipe.settings["train::dataloader::batch_size"]
    assert recipe.settings["train::dataset::samples"] % batch == 0


@pytest.mark.parametrize("name", NAMES)
def test_networks_that_come_along_are_small(name):
    recipe = read_recipe(configs_dir(), name)
    network = network_made_by(name)

    parameters = sum(each.numel() for each in network.parameters())

    assert 3e5 < parameters <= 2e6 * max(1, len(recipe.members))


def test_all_weights_together_stay_below_the_limit():
    parameters = sum(
        each.numel() for name in NAMES for each in network_made_by(name).parameters()
    )

    assert 2 * parameters < MOST_BYTES

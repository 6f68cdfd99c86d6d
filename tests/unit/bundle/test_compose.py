"""Configs compose in order, and nothing that nobody reads gets in."""

import re

import pytest

from cellseg3d.bundle.compose import (
    compose,
    override,
    parse_setting,
    prune,
    read_config,
    unread_keys,
)
from cellseg3d.core.errors import ConfigError

LOSS = "cellseg3d.models.losses.DiceCELoss"


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_a_later_file_overrides_and_reaches_inside(tmp_path):
    one = write(tmp_path, "a.yaml", "train:\n  size: 1\n  rate: 2\nseed: 3\n")
    two = write(tmp_path, "b.yaml", "train::size: 5\n")

    config = compose([one, two], {"seed": 4})

    assert config == {"train": {"size": 5, "rate": 2}, "seed": 4}


def test_another_target_does_not_inherit_arguments(tmp_path):
    one = write(tmp_path, "a.yaml", "loss:\n  _target_: torch.nn.A\n  weight: 2\n")
    two = write(tmp_path, "b.yaml", "loss:\n  _target_: torch.nn.B\n")

    assert compose([one, two])["loss"] == {"_target_": "torch.nn.B"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "a: 1\na: 2\n", "twice"),
        ("a.yaml", "a: &x [1]\nb: *x\n", "aliases"),
        ("a.json", '{"a": 1, "a": 2}', "twice"),
        ("a.yaml", "- 1\n", "expected a mapping"),
        ("a.yaml", "a: !!python/object/apply:os.system [x]\n", "not valid"),
        ("a.json", "{", "not valid"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, name, text, words):
    with pytest.raises(ConfigError, match=words) as error:
        read_config(write(tmp_path, name, text))
    assert "a." in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml"):
        compose([tmp_path / "nothing.yaml"])


def test_what_nothing_reads_is_found():
    config = {
        "run": ["@train::step"],
        "train": {"step": "@size", "setp": 1},
        "size": 2,
        "sise": 3,
        "network_def": {"_target_": LOSS, "batch_size": 1},
    }

    assert unread_keys(config) == ["sise", "train::setp", "network_def::batch_size"]
    assert "sise" not in prune(config)
    assert prune(config)["train"] == {"step": "@size"}


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("train::sampels", "train::samples"),
        ("trian::samples", "train::samples"),
        ("loss::class_wieghts", "loss::class_weights"),
    ],
)
def test_a_misspelt_override_gets_a_suggestion(key, better):
    config = {"train": {"samples": 1}, "loss": {"_target_": LOSS}}

    with pytest.raises(ConfigError, match=f"did you mean '{better}'"):
        override(config, {key: 2})


def test_an_override_may_set_what_a_target_takes_and_leaves_the_config():
    config = {"loss": {"_target_": LOSS}, "parts": [{"a": 1}]}

    changed = override(config, {"loss#class_weights": [1, 2], "parts::0::a": 2})

    assert changed["loss"]["class_weights"] == [1, 2]
    assert changed["parts"] == [{"a": 2}]
    assert config["parts"] == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=1", 1), ("a=[8, 16]", [8, 16]), ("a=none", "none"), ("a=1e-3", 1e-3)],
)
def test_settings_are_read_as_yaml(text, value):
    assert parse_setting(text) == ("a", value)


def test_a_setting_needs_a_value():
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_setting("a")


@pytest.mark.parametrize("key", [1e308, True, None])
def test_a_key_of_a_plan_that_is_no_text_is_refused(key):
    with pytest.raises(ConfigError, match=re.escape(f"the key {key!r} is no")):
        override({"a": 1}, {key: 2}, "plan")

"""Every verb reads a config in one way: file, overrides, one check of the whole."""

import json

import pytest

from cellseg3d.bundle.resolve import build, resolve_config, resolve_in_place
from cellseg3d.core.errors import ConfigError

INTENSITY = {
    "_target_": "cellseg3d.datasets.intensity.IntensityScale",
    "mode": "range",
    "lower": "@least",
    "upper": 2,
}
CONFIG = {
    "bundle_root": {"_target_": "cellseg3d.bundle.root.find_root"},
    "least": 0,
    "intensity": INTENSITY,
    "spec": {"spatial_dims": 2, "patch_shape": [16, 16]},
    "loss": {"_target_": "torch.nn.CrossEntropyLoss"},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bundle" / "configs" / "train.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(CONFIG), encoding="utf-8")
    return path


def test_overrides_are_in_place_and_the_file_stays(file):
    config = resolve_config(file, {"spec::patch_shape": [8, 8], "least": 1})

    assert config["spec"] == {"spatial_dims": 2, "patch_shape": [8, 8]}
    assert config["intensity"]["lower"] == "@least"
    assert json.loads(file.read_text(encoding="utf-8")) == CONFIG


def test_blocks_hold_what_their_references_stand_for_after_overrides(file):
    blocks = resolve_config(file, {"least": 1}, only=["intensity", "spec"])

    assert list(blocks) == ["intensity", "spec"]
    assert blocks["intensity"]["lower"] == 1
    assert build(blocks["intensity"], file).lower == 1


def test_a_config_that_runs_knows_its_folder_from_anywhere(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = str((tmp_path / "bundle").resolve())

    assert resolve_in_place(file)["bundle_root"] == root
    given = resolve_in_place(file, {"bundle_root": "elsewhere"})
    assert given["bundle_root"] == "elsewhere"


@pytest.mark.parametrize(
    ("settings", "only", "words"),
    [
        ({"loss::_target_": "os.system"}, (), "os.system"),
        ({"least": "$open('x')"}, (), "does more than join"),
        ({"intensity::_target_": "os.system"}, ["intensity"], "os.system"),
        # Training may name it, what describes a model may not.
        ({}, ["loss"], "torch.nn.CrossEntropyLoss"),
        ({"least": "$1 + 1"}, ["intensity"], "is not run"),
        ({"leest": 1}, (), "did you mean 'least'"),
        ({}, ["window"], "'window' is missing"),
        ({"least": "@nothing"}, ["intensity"], "refers to nothing"),
    ],
)
def test_what_may_not_be_there_is_refused_with_the_file(file, settings, only, words):
    with pytest.raises(ConfigError) as caught:
        resolve_config(file, settings, only=only)

    assert words in str(caught.value)
    assert str(caught.value).startswith(str(file))

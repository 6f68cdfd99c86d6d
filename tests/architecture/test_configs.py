"""Every config composes, every bundle is what configs/ says, and is complete."""

import json
import shutil
from pathlib import Path

import pytest

from cellseg3d.bundle.assemble import assemble, drift, experiments
from cellseg3d.bundle.compose import check_read, read_config
from cellseg3d.bundle.shipped import configs_dir
from cellseg3d.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "bundles"
NAMES = [path.stem for path in experiments(ROOT / "configs")]


def copied(folder):
    shutil.copytree(configs_dir(), folder / "configs")
    return folder / "configs"


def test_the_bundles_are_what_configs_say():
    assert drift(configs_dir(), BUNDLES) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["train", "inference", "evaluate"])
def test_a_bundle_holds_no_key_that_nothing_reads(name, file):
    path = BUNDLES / name / "configs" / f"{file}.json"

    check_read(read_config(path), str(path))


@pytest.mark.parametrize("name", NAMES)
def test_training_and_inference_share_one_network(name):
    configs = [
        read_config(BUNDLES / name / "configs" / f"{file}.json")
        for file in ("train", "inference", "evaluate")
    ]

    for key in ("network_def", "spec", "intensity", "window", "default_facts"):
        first, *others = (
            json.dumps(config[key]) for config in configs if key in config
        )
        assert all(other == first for other in others), key


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_ships_no_code_and_every_file_it_must(name):
    folder = BUNDLES / name

    assert not list(folder.rglob("*.py"))
    for part in ("configs/metadata.json", "configs/logging.conf", "docs/README.md"):
        assert (folder / part).stat().st_size > 100
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (folder / "models").is_dir()


def test_a_hand_edit_is_found(tmp_path):
    configs = copied(tmp_path)
    assemble(configs, tmp_path / "bundles")
    path = tmp_path / "bundles" / NAMES[0] / "configs" / "train.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))

    lines = drift(configs, tmp_path / "bundles")

    assert f"{path}: differs from configs/" in lines


def test_a_fragment_with_a_misspelt_key_is_refused(tmp_path):
    configs = copied(tmp_path)
    with (configs / "network" / "unet3d.yaml").open("a") as file:
        file.write("train::dataset::smaples: 3\n")

    with pytest.raises(ConfigError, match=r"smaples.*samples"):
        assemble(configs, tmp_path / "bundles")


def test_a_key_that_no_file_of_the_bundle_reads_is_refused(tmp_path):
    configs = copied(tmp_path)
    with (configs / "network" / "unet3d.yaml").open("a") as file:
        file.write("max_minute: 3\n")

    with pytest.raises(ConfigError, match=r"max_minute.*max_minutes"):
        assemble(configs, tmp_path / "bundles")

"""A model loads with what its training fixed; nobody's code runs on the way."""

import json

import numpy as np
import pytest
import torch

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.model_facts import ModelFacts, network_for, stored_facts
from cellseg3d.bundle.shipped import RENAMED, find_bundle, shipped_bundles
from cellseg3d.bundle.trust import plain_expression, refuse_foreign_code
from cellseg3d.core.errors import CellSegError, ConfigError, FormatError, InputError
from cellseg3d.core.volume import Volume
from cellseg3d.models.checkpoint import save_weights

FACTS = {"classes": ["background", "cell"], "spacing_um": [0.1, 0.05, 0.05]}
SPEC = {"spatial_dims": 2, "patch_shape": [16, 16], "context": 1}


@pytest.fixture
def folder(tmp_path):
    """A bundle with weights of a two-level 2.5D network."""
    network_def = {
        "_target_": "cellseg3d.bundle.model_facts.network_for",
        "name": "residual_unet",
        "spec": "@spec",
        "facts": "@facts",
        "channels": [4, 8],
    }
    config = {
        "spec": SPEC,
        "window": {"axes": "zyx"},
        "intensity": {
            "_target_": "cellseg3d.datasets.intensity.IntensityScale",
            "mode": "range",
            "lower": 0,
            "upper": 2,
        },
        "facts": {"classes": ["never", "seen"]},
        "network_def": network_def,
    }
    for part in ("configs", "models"):
        (tmp_path / part).mkdir()
    write_config(tmp_path / "configs" / "inference.json", config)
    write_config(tmp_path / "configs" / "metadata.json", {"name": "toy"})
    torch.manual_seed(3)
    network = network_for("residual_unet", SPEC, FACTS, channels=[4, 8])
    path = tmp_path / "models" / "model.safetensors"
    save_weights(path, network.state_dict(), {"facts": FACTS})
    return tmp_path


def change(folder, key, value):
    path = folder / "configs" / "inference.json"
    config = read_config(path)
    config[key] = value
    write_config(path, config)


def test_a_model_has_what_its_training_fixed(folder):
    torch.manual_seed(3)
    expected = network_for("residual_unet", SPEC, FACTS, channels=[4, 8]).eval()
    image = torch.rand(1, 3, 17, 20)

    model = load_model(folder)

    assert (model.name, model.classes) == ("toy", ("background", "cell"))
    assert model.spec.context == 1
    assert model.spacing_um.zyx == (0.1, 0.05, 0.05)
    blank = Volume(np.zeros((1, 2, 2)))
    assert model.intensity.apply(np.ones(1), *model.intensity.measure(blank))[0] == 0
    assert model.window == {"axes": "zyx"}
    assert torch.equal(model.network(image), expected(image))
    assert stored_facts(folder, {"classes": ["a", "b"]}) == ModelFacts.parse(FACTS)


def test_a_bundle_without_weights_says_how_to_train(folder):
    (folder / "models" / "model.safetensors").unlink()

    with pytest.raises(InputError, match="train the bundle first"):
        load_model(folder)
    assert stored_facts(folder, FACTS).num_classes == 2


def test_a_damaged_file_is_named(folder):
    path = folder / "models" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)

    with pytest.raises(FormatError, match=r"model\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize(
    "block",
    [
        {"_target_": "os.system", "command": "touch {marker}"},
        {"_target_": "monai.networks.utils.os.system", "command": "touch {marker}"},
        {"_target_": "torch.nn.modules.module.torch.load", "f": "{marker}"},
        {"_target_": "subprocess.run", "args": ["touch", "{marker}"]},
        "$__import__('os').system('touch {marker}')",
        "$open('{marker}', 'w')",
    ],
)
def test_no_code_of_a_bundle_runs(folder, tmp_path, block):
    marker = tmp_path / "pwned"
    block = json.loads(json.dumps(block).replace("{marker}", str(marker)))
    change(folder, "network_def", block)

    with pytest.raises(ConfigError, match=r"not run|nothing was run"):
        load_model(folder)
    assert not marker.exists()


def test_a_config_that_refers_to_itself_ends(folder):
    change(folder, "spec", "@spec")

    with pytest.raises(ConfigError, match="refers to itself"):
        load_model(folder)


def test_a_network_of_monais_is_welcome(folder):
    change(
        folder,
        "network_def",
        {"_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2}
        | {"in_channels": 3, "out_channels": 2},
    )

    with pytest.raises(InputError, match="belong to another network"):
        load_model(folder)


@pytest.mark.parametrize("name", ["train", "inference", "evaluate"])
def test_our_own_bundles_are_trusted(name):
    for folder in shipped_bundles().values():
        path = folder / "configs" / f"{name}.json"
        refuse_foreign_code(read_config(path), path)


@pytest.mark.parametrize(
    "text",
    [
        "@a.run.__globals__",
        "__import__('os')",
        "monai.utils.os.system('x')",
        "[x for x in @a]",
        "(lambda: 1)()",
        "import os",
        "open('x').run()",
    ],
)
def test_an_expression_may_not_do_more_than_join_and_read(text):
    assert not plain_expression(text)


def test_foreign_code_is_refused_before_training():
    with pytest.raises(ConfigError, match="nothing was run"):
        refuse_foreign_code({"run": "$__import__('os').system('x')"}, "train.json")


def test_a_misspelt_bundle_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean 'cell_tomo_unet3d'"):
        find_bundle("cell_tomo_unet3")


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_old_name_of_a_bundle_finds_it_and_says_the_new_one(old, new, caplog):
    folder = find_bundle(old)

    assert folder == shipped_bundles()[new]
    assert caplog.messages == [f"the bundle {old} was renamed to {new}"]


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(ConfigError, match="is not a bundle"):
        find_bundle(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"classes": ["one"]},
        {"classes": ["a", "a"]},
        {"classes": ["a", "b"], "spacing": 1},
        {},
    ],
)
def test_facts_that_make_no_sense_are_refused(values):
    with pytest.raises(ConfigError):
        ModelFacts.parse(values)


BLOCKS = {
    "spec_list": ("spec", [1, 2]),
    "spec_text": ("spec", "2D"),
    "spec_nan": ("spec", {**SPEC, "patch_shape": [float("nan"), 16]}),
    "spec_keys": ("spec", {"spatial_dims": 2}),
    "spec_none": ("spec", {**SPEC, "context": None}),
    "cycle": ("spec", {"spatial_dims": "@spec"}),
    "window_list": ("window", [1]),
    "intensity_list": ("intensity", ["percentile"]),
    "network_number": ("network_def", 3),
    "network_keys": (
        "network_def",
        {"_target_": "cellseg3d.bundle.model_facts.network_for"},
    ),
}
FILES = {
    "empty": ("configs/inference.json", b""),
    "list": ("configs/inference.json", b"[]"),
    "no_keys": ("configs/inference.json", b"{}"),
    "metadata_list": ("configs/metadata.json", b"[1]"),
    "weights_empty": ("models/model.safetensors", b""),
    "weights_text": ("models/model.safetensors", b'{"a": 1}'),
}


@pytest.mark.parametrize("case", [*BLOCKS, *FILES])
def test_a_malformed_bundle_ends_in_one_line(folder, case):
    if case in BLOCKS:
        change(folder, *BLOCKS[case])
    else:
        name, content = FILES[case]
        (folder / name).write_bytes(content)

    with pytest.raises(CellSegError) as caught:
        load_model(folder)
    assert caught.value.exit_code in (2, 3)
    assert len(str(caught.value).splitlines()) == 1

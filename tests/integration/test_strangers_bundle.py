"""No verb runs the code of a bundle that somebody else has written."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from two_balls import write_two_balls

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.model_facts import network_for
from cellseg3d.bundle.names import CONFIG_NAMES
from cellseg3d.bundle.trust import plain_expression
from cellseg3d.cli.main import main
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.old_names import current_name
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.models.checkpoint import save_weights
from cellseg3d.training.train import score_run

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "cell_tomo_unet3d"
PAYLOADS = {
    "system": ("loss", {"_target_": "os.system", "command": "touch {marker}"}),
    "run_cmd": ("loss", {"_target_": "monai.utils.run_cmd", "cmd": "touch {marker}"}),
    "collect": (
        "loss",
        {"_target_": "torch.utils.collect_env.run", "command": "touch {marker}"},
    ),
    "main": ("loss", {"_target_": "cellseg3d.cli.main.main", "arguments": []}),
    "save": ("loss", {"_target_": "torch.save", "obj": 1, "f": "{marker}"}),
    "split": ("loss::_target_", "os.system"),
    "mode": (
        "loss",
        {"_target_": "cellseg3d.models.losses.DiceCELoss", "_mode_": "debug"},
    ),
    "import": ("device", "$__import__('os').system('touch {marker}')"),
    "module": ("device", "$monai.utils.misc.subprocess.run(['touch', '{marker}'])"),
    "macro": ("device", "%/tmp/other.json::device"),
    "reader": (
        "loss",
        {"_target_": "monai.transforms.LoadImaged", "reader": "os.open"},
    ),
    "own": ("loss", {"_target_": "stranger.Loss"}),
}


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A bundle, its data, and a module beside them that leaves a mark if imported."""
    weights = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(BUNDLE, tmp_path / "bundle", ignore=weights)
    write_two_balls(tmp_path / "data")
    text = f"open({str(tmp_path / 'marker')!r}, 'w')"
    (tmp_path / "stranger.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def spoil(folder, payload, file, block=None):
    key, value = PAYLOADS[payload]
    value = json.loads(json.dumps(value).replace("{marker}", str(folder / "marker")))
    path = folder / "bundle" / "configs" / file
    path.write_text(
        json.dumps({**read_config(path), block or key: value}), encoding="utf-8"
    )


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("verb", ["preview", "train", "resume", "tune"])
def test_no_verb_runs_it(stranger, capsys, payload, verb):
    spoil(stranger, payload, "train.json")
    (stranger / "space.yaml").write_text("search: {seed: [1, 2]}\n", encoding="utf-8")
    data = ["--data", "data/datalist.json"]
    words = {
        "preview": ["bundle", "--png", "p.png", *data],
        "train": ["--bundle", "bundle", "--out", "run", *data],
        "resume": ["--resume", "--out", "bundle"],
        "tune": ["space.yaml", "--bundle", "bundle", "--out", "search", *data],
    }[verb]

    code = main(["train" if verb == "resume" else verb, *words])

    assert code == 3
    assert "nothing was run" in capsys.readouterr().err
    assert not (stranger / "marker").exists()


def with_weights(folder):
    """Put random weights into the bundle, so that predict reads its blocks."""
    config = read_config(folder / "bundle" / "configs" / "inference.json")
    facts = config["default_facts"]
    # As it was before somebody spoiled it.
    own = read_config(BUNDLE / "configs" / "inference.json")
    block = dict(own["network_def"])
    given = {key: block.pop(key) for key in ("_target_", "name", "spec", "facts")}
    network = network_for(given["name"], config["spec"], facts, **block)
    path = folder / "bundle" / "models" / "model.safetensors"
    save_weights(path, network.state_dict(), {"facts": facts})


@pytest.mark.parametrize("block", ["network_def", "spec", "intensity", "window"])
@pytest.mark.parametrize("payload", [name for name in PAYLOADS if name != "split"])
def test_predict_runs_no_block_of_a_model(stranger, capsys, payload, block):
    with_weights(stranger)
    spoil(stranger, payload, "inference.json", block)

    code = main(["predict", "data", "--bundle", "bundle", "--out", "out"])

    assert code == 3
    assert re.search("nothing was run|is not run", capsys.readouterr().err)
    assert not (stranger / "marker").exists()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_predict_ignores_what_it_does_not_build(stranger, payload):
    spoil(stranger, payload, "inference.json")
    with_weights(stranger)

    assert load_model("bundle").classes[0] == "background"
    assert not (stranger / "marker").exists()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_scoring_a_run_and_checking_bundles_run_nothing(stranger, capsys, payload):
    spoil(stranger, payload, "evaluate.json")
    (stranger / "bundles").mkdir()
    (stranger / "bundle").rename(stranger / "bundles" / "cell_tomo_unet3d")

    code = main(["bundle", "check", "--bundles", "bundles"])

    assert code == 3
    assert "evaluate.json: differs" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="nothing was run"):
        score_run(stranger / "bundles" / "cell_tomo_unet3d")
    assert not (stranger / "marker").exists()


@pytest.mark.parametrize(
    "block",
    [
        {"_target_": "monai.networks.nets.HoVerNet"},
        {"_target_": "cellseg3d.bundle.model_facts.network_for", "spec": "@spec"}
        | {"name": "monai.HoVerNet", "facts": "@facts"},
        {"_target_": "cellseg3d.models.unet.build_network", "spec": "@spec"}
        | {"name": "monai.HoVerNet", "num_classes": 2},
    ],
)
@pytest.mark.parametrize("argument", ["pretrained_url", "pretrained_state_dict_key"])
def test_a_network_gets_only_arguments_that_fetch_nothing(
    stranger, monkeypatch, block, argument
):
    """The constructor would download what the address holds."""
    asked = []
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda *given, **_: asked.append(given)
    )
    given = {**block, argument: "http://localhost:1/weights"}
    path = stranger / "bundle" / "configs" / "inference.json"
    config = {**read_config(path), "network_def": given}
    path.write_text(json.dumps(config), encoding="utf-8")
    with_weights(stranger)

    with pytest.raises(ConfigError, match=argument):
        load_model("bundle")
    assert not asked


@pytest.mark.parametrize("word", ["--plan", "--set"])
@pytest.mark.parametrize("target", ["os.system", "stranger.Loss", "torch.save"])
def test_plans_and_overrides_are_checked_too(stranger, capsys, word, target):
    (stranger / "plan.yaml").write_text(f"loss::_target_: {target}\n", encoding="utf-8")
    given = "plan.yaml" if word == "--plan" else f"loss::_target_={target}"
    words = ["train", "--bundle", "bundle", "--out", "run", "--data", "data"]

    code = main([*words, word, given])

    assert code == 3
    assert "nothing was run" in capsys.readouterr().err
    assert not (stranger / "marker").exists()


def test_trust_lets_exactly_one_name_through_and_is_recorded(stranger, capsys):
    lines = "from cellseg3d.models.losses import DiceCELoss as Loss\n"
    (stranger / "clever.py").write_text(lines, encoding="utf-8")
    words = ["train", "--bundle", "bundle", "--out", "run", "--data", "data"]
    words += ["--set", "loss::_target_=clever.Loss", "--epochs", "1", "--no-calibrate"]
    words += ["--set", "train::dataset::samples=2", "--quiet"]
    again = ["train", "--resume", "--out", "run", "--epochs", "2", "--quiet"]
    again += ["--no-calibrate"]

    assert main(words) == 3
    assert "--trust clever.Loss" in capsys.readouterr().err
    assert main([*words, "--trust", "clever.Other"]) == 3
    assert main([*words, "--trust", "clever.Loss"]) == 0, capsys.readouterr().err
    record = json.loads((stranger / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["trusted"] == ["clever.Loss"]
    capsys.readouterr()
    assert main(again) == 3
    assert "--trust clever.Loss" in capsys.readouterr().err
    assert main([*again, "--trust", "clever.Loss"]) == 0, capsys.readouterr().err


def test_a_loss_that_does_not_know_255_is_refused_before_training(stranger, capsys):
    path = stranger / "bundle" / "configs" / "train.json"
    loss = {"_target_": "monai.losses.DiceCELoss", "to_onehot_y": True, "softmax": True}
    path.write_text(json.dumps({**read_config(path), "loss": loss}), encoding="utf-8")
    words = ["train", "--bundle", "bundle", "--out", "run", "--data", "data", "--quiet"]

    assert main(words) == 3
    error = capsys.readouterr().err
    assert "does not know the label 255" in error
    assert "use cellseg3d.models.losses.DiceCELoss" in error
    assert not list((stranger / "run").glob("checkpoints/*"))


@pytest.mark.parametrize("path", ["/dev/zero", "pipe"])
def test_a_device_or_a_pipe_is_no_config(stranger, capsys, path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with names")
    os.mkfifo(stranger / "pipe")
    words = ["train", "--bundle", "bundle", "--out", "run", "--data", "data"]

    code = main([*words, "--plan", path])

    assert code == 3
    assert "is no regular file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "@data.run()",
        "@loss.parameters()",
        "@a.run.__globals__",
        "monai.utils.set_determinism(seed=open('x'))",
        "monai.utils.misc.subprocess",
        "'a' * 10",
        "__import__('os')",
    ],
)
def test_an_expression_outside_the_grammar_is_refused(text):
    assert not plain_expression(text)


def test_every_name_in_configs_and_bundles_is_on_the_list():
    files = [*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("bundles/*/configs/*.json")]
    pattern = re.compile(r"(?:_target_|reader|writer)\"?: \"?([\w.]+)")
    found = {
        name
        for path in files
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    }

    assert len(found) > 40
    assert found <= CONFIG_NAMES


def test_every_name_that_configs_ever_held_is_on_the_list():
    path = ROOT / "tests" / "fixtures" / "run_before_move" / "names.txt"
    names = path.read_text(encoding="utf-8").split()

    assert {current_name(name) for name in names} <= CONFIG_NAMES


def test_preview_and_predict_run_what_is_trusted_and_nothing_else(stranger, capsys):
    lines = (
        "from cellseg3d.bundle.model_facts import network_for as network\n"
        "from cellseg3d.datasets.intensity import IntensityScale as Scale\n"
    )
    (stranger / "scaling_of_mine.py").write_text(lines, encoding="utf-8")
    with_weights(stranger)
    for file in ("train.json", "inference.json"):
        path = stranger / "bundle" / "configs" / file
        config = read_config(path)
        config["intensity"]["_target_"] = "scaling_of_mine.Scale"
        path.write_text(json.dumps(config), encoding="utf-8")
    [image, *_] = [case.image for case in load_datalist("data").cases]
    show = ["preview", "bundle", "--png", "p.png", "--data", "data/datalist.json"]
    find = ["predict", image, "--bundle", "bundle", "--out", "out"]

    for words in (show, find):
        assert main(words) == 3
        assert main([*words, "--trust", "scaling_of_mine.Other"]) == 3
        assert "scaling_of_mine.Scale" in capsys.readouterr().err
        assert main([*words, "--trust", "scaling_of_mine.Scale"]) == 0, (
            capsys.readouterr().err
        )


def test_tune_takes_a_relative_folder_and_a_trusted_name(stranger, capsys):
    lines = "from cellseg3d.models.losses import DiceCELoss as Loss\n"
    (stranger / "loss_of_mine.py").write_text(lines, encoding="utf-8")
    space = {
        "bundle": "bundle",
        "set": {
            "loss::_target_": "loss_of_mine.Loss",
            "train::dataset::samples": 2,
            "network_def::channels": [4, 8],
        },
        "search": {"seed": [1, 2]},
    }
    (stranger / "space.yaml").write_text(json.dumps(space), encoding="utf-8")
    words = ["tune", "space.yaml", "--data", "data", "--out", "search", "--trials", "1"]
    words += ["--epochs", "1", "--outer", "0", "--device", "cpu"]

    assert main(words) == 3
    assert "--trust loss_of_mine.Loss" in capsys.readouterr().err
    assert main([*words, "--trust", "loss_of_mine.Loss"]) == 0, capsys.readouterr().err
    assert (stranger / "search" / "best.yaml").is_file()

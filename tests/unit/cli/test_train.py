"""``cellseg3d train``: what a user types, and what comes back."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
import yaml

from cellseg3d.bundle.shipped import weights_of
from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import read_labels, write_labels, write_volume
from cellseg3d.models.checkpoint import load_weights

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ignite.engine  # noqa: F401
    import torch.utils.tensorboard

SETTINGS = (
    "train::dataset::samples=8",
    "network_def::channels=[4, 8]",
    "spec::patch_shape=[8, 8, 8]",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two volumes that pair with their labels by name; no datalist."""
    place = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (place / part).mkdir()
    for name in ("one", "two"):
        label = np.zeros((16, 20, 24), np.uint8)
        label[4:12, 5:15, 6:18] = 1
        image = (label + random.normal(0, 0.2, label.shape)).astype(np.float32)
        spacing = Spacing(0.05, 0.05, 0.05)
        write_volume(place / "images" / f"{name}.mrc", Volume(image, spacing))
        write_labels(place / "labels" / f"{name}.tif", Volume(label, spacing))
    return place


def words(folder, out, *more, settings=SETTINGS):
    chosen = [word for text in settings for word in ("--set", text)]
    base = ["train", "--bundle", "cell_tomo_unet3d", "--data", str(folder)]
    return [*base, "--out", str(out), "--device", "cpu", "--quiet", *chosen, *more]


def test_two_labelled_volumes_train_a_bundle(folder, tmp_path, capsys):
    out = tmp_path / "run"

    code = main(words(folder, out, "--epochs", "2"))

    said = capsys.readouterr().out
    record = json.loads((out / "run.json").read_text())
    config = json.loads((out / "configs" / "train.json").read_text())
    assert code == 0
    assert "trained 8 steps" in said
    assert f"predict VOLUME --bundle {out}" in said
    assert record["state"] == "completed"
    assert [record["data"]["training"], record["data"]["validation"]] == [
        ["two"],
        ["one"],
    ]
    assert config["facts"]["spacing_um"] == pytest.approx([0.05] * 3)
    assert config["epochs"] == 2


def test_a_time_budget_ends_a_training_of_endless_epochs(folder, tmp_path):
    code = main(words(folder, tmp_path / "run", "--minutes", "0.05"))

    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert code == 0
    assert record["best_score"] > 0
    assert record["history"][-1]["iteration"] == record["iteration"] > 0
    # The clock ended it: nobody gave a number of epochs.
    assert record["cost"]["wall_s"] > 2


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (("--set", "train::dataset::sampels=3"), 3, "train::dataset::samples"),
        (("--set", "sead=3"), 3, "did you mean 'seed'"),
        (("--set", "network_def::chanels=[4]"), 3, "did you mean 'channels'"),
        (("--fold", "three"), 3, "no fold 'three'"),
        (("--precision", "half"), 3, "expected one of auto"),
        (("--device", "gpu"), 3, "device 'gpu'"),
        (("--pretrained", "nowhere.safetensors"), 2, "nowhere.safetensors"),
    ],
)
def test_a_mistake_is_named_in_one_line(folder, tmp_path, capsys, more, code, text):
    answer = main(words(folder, tmp_path / "run", "--epochs", "1", *more))

    [line] = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("error:")
    ]
    assert answer == code
    assert text in line


def test_a_run_that_never_began_may_be_begun_again(folder, tmp_path):
    out = tmp_path / "run"
    assert main(words(folder, out, "--epochs", "1", "--fold", "three")) == 3

    assert main(words(folder, out, "--epochs", "1")) == 0
    assert main(words(folder, out, "--epochs", "1")) == 4


def test_without_data_it_says_what_is_missing(tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / "run")]) == 3
    assert "--data is missing" in capsys.readouterr().err


def test_a_folder_in_use_is_refused(folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(words(folder, out, "--epochs", "1")) == 0
    owner = {"host": "elsewhere", "pid": 1, "started": "noon"}
    (out / ".lock").write_text(json.dumps(owner))

    code = main(["train", "--out", str(out), "--resume", "--epochs", "2", "--quiet"])

    assert code == 4
    assert "in use by process 1 on elsewhere" in capsys.readouterr().err


def test_the_scores_of_a_training_are_a_table_and_a_file(folder, tmp_path, capsys):
    out, target = tmp_path / "run", tmp_path / "scores.json"

    code = main(words(folder, out, "--epochs", "2", "--json", str(target)))

    said = capsys.readouterr().out
    found = json.loads(target.read_text())
    [(name, dice)] = found["validation"]["scores"]["one"].items()
    [row] = [line for line in said.splitlines() if line.startswith("one ")]
    assert code == 0
    assert f"{dice:.4f}" in row
    assert "/1" in row  # one object, found or not
    assert found["validation"]["recall_by_size"]["one"][name][0]["size"] == "all"
    assert found["best_score"] == pytest.approx(dice)


def test_without_a_bundle_the_whole_plan_is_trained(folder, tmp_path, capsys):
    out = tmp_path / "run"
    chosen = [word for text in SETTINGS[:2] for word in ("--set", text)]
    base = ["train", "--data", str(folder), "--out", str(out), "--device", "cpu"]

    code = main([*base, "--quiet", "--epochs", "1", *chosen])

    said = capsys.readouterr().out
    config = json.loads((out / "configs" / "train.json").read_text())
    plan = yaml.safe_load((out / "plan.yaml").read_text())
    assert code == 0
    assert "plan: 3D, cell_tomo_unet3d" in said
    assert config["spec"]["patch_shape"] == plan["spec::patch_shape"]
    loader = config["train"]["dataloader"]
    assert loader["batch_size"] == plan["train::dataloader::batch_size"]
    assert (
        config["train"]["dataset"]["foreground"] == (plan["train::dataset::foreground"])
    )
    # What the user says wins over the plan.
    assert config["epochs"] == 1 != plan["epochs"]
    assert config["train"]["dataset"]["samples"] == 8


def test_a_warning_is_told_once(folder, tmp_path, capsys, caplog):
    place = tmp_path / "data"
    shutil.copytree(folder, place)
    empty = np.zeros((16, 20, 24), np.uint8)
    write_labels(place / "labels" / "two.tif", Volume(empty, Spacing(0.05, 0.05, 0.05)))

    code = main(words(place, tmp_path / "run", "--epochs", "1"))

    said = capsys.readouterr()
    told = [record.message for record in caplog.records if "two" in record.message]
    assert code == 0
    assert told
    assert len(told) == len(set(told))
    assert "note:" not in said.out


def test_a_folder_of_images_is_predicted_as_it_was_trained(tmp_path, capsys):
    place, out = tmp_path / "data", tmp_path / "run"
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (place / part).mkdir(parents=True)
    for name in ("s1", "s2", "s3"):
        label = np.zeros((1, 24, 32), np.uint8)
        label[0, 6:18, 8:24] = 1
        image = (label * 100 + random.integers(0, 60, label.shape)).astype(np.uint8)
        write_volume(place / "images" / f"{name}.png", Volume(image))
        write_labels(place / "labels" / f"{name}.png", Volume(label))
    settings = ("train::dataset::samples=8", "network_def::channels=[4, 8]")
    chosen = [word for text in settings for word in ("--set", text)]
    train = ["train", "--bundle", "cell_tomo_unet2d", "--data", str(place)]
    end = ["--out", str(out), "--epochs", "1", "--device", "cpu", "--quiet", *chosen]
    assert main([*train, *end, "--no-calibrate"]) == 0
    capsys.readouterr()
    predict = ["predict", str(place / "images"), "--bundle", str(out), "--out"]

    codes = [
        main([*predict, str(tmp_path / name), "--device", "cpu", *more])
        for name, more in (("one", []), ("all", ["--folders", "slices"]))
    ]

    said = capsys.readouterr().out
    assert codes == [0, 0]
    assert said.count("3 images, each taken as a volume of its own") == 1
    names = ("s1", "s2", "s3")
    labels = [read_labels(tmp_path / "one" / f"{n}_labels.png") for n in names]
    assert [each.shape for each in labels] == [(1, 24, 32)] * 3
    [stacked] = [p for p in (tmp_path / "all").iterdir() if p.suffix != ".json"]
    assert read_labels(stacked).shape == (3, 24, 32)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_training_goes_on(folder, tmp_path, number, workers):
    out = tmp_path / "run"
    more = ["--epochs", "100000", "--workers", str(workers)]
    command = [sys.executable, "-m", "cellseg3d", *words(folder, out, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    last = out / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    # Workers get it too, as from a terminal or a scheduler.
    os.killpg(process.pid, number)
    code = process.wait(timeout=60)
    record = json.loads((out / "run.json").read_text())

    resumed = main(["train", "--out", str(out), "--resume", "--minutes", "0.05"])

    after = json.loads((out / "run.json").read_text())
    assert code == (-9 if number == signal.SIGKILL else 130)
    assert record["state"] == ("running" if code == -9 else "interrupted")
    assert resumed == 0
    assert after["state"] == "completed"
    assert after["iteration"] > 4


def trained_run(folder, place):
    """Train a run of two classes for one epoch."""
    out = place / "first"
    assert main(words(folder, out, "--epochs", "1", "--no-calibrate")) == 0
    return out


def goes_on_words(folder, out, bundle, *more):
    base = ["train", "--bundle", str(bundle), "--data", str(folder), "--out", str(out)]
    more = ("--epochs", "1", "--no-calibrate", "--quiet", "--device", "cpu", *more)
    return [*base, *more, "--set", "optimizer::lr=0", "--set", "average::decay=0"]


def weights_in(run):
    return load_weights(run / "models" / "last.safetensors").tensors


def learned(tensors):
    """The tensors that only the optimiser changes."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if "running" not in name and tensor.is_floating_point()
    }


def test_a_run_as_bundle_begins_with_its_weights(folder, tmp_path, capsys):
    first = trained_run(folder, tmp_path)
    out, anew = tmp_path / "second", tmp_path / "anew"

    assert main(goes_on_words(folder, out, first)) == 0
    said = capsys.readouterr().out
    assert main(goes_on_words(folder, anew, first, "--from-scratch")) == 0

    before, after = learned(weights_in(first)), learned(weights_in(out))
    assert f"begins with the weights of {first}" in said
    assert "begins with the weights" not in capsys.readouterr().out
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    scratch = weights_in(anew)
    assert any(not torch.equal(scratch[n], t) for n, t in before.items())


def test_other_classes_keep_what_both_networks_know(folder, tmp_path, capsys):
    first = trained_run(folder, tmp_path)
    rows = [
        {"name": n, "image": f"images/{n}.mrc", "label": f"labels/{n}.tif"}
        for n in ("one", "two")
    ]
    classes = ["background", "new", "foreground"]
    values = {"classes": classes, "label_map": {"1": 2}, "cases": rows}
    listed = folder / "other_classes.json"
    listed.write_text(json.dumps(values), encoding="utf-8")
    out = tmp_path / "second"

    code = main(goes_on_words(listed, out, first))

    before, after = learned(weights_in(first)), learned(weights_in(out))
    assert code == 0, capsys.readouterr()
    same = [n for n, t in before.items() if t.shape == after[n].shape]
    other = [n for n in before if n not in same]
    assert other
    for name in same:
        assert torch.equal(after[name], before[name]), name
    bias = next(n for n in other if before[n].ndim == 1)
    assert torch.equal(after[bias][[0, 2]], before[bias][[0, 1]])


def test_weights_are_named_by_run_bundle_or_file(folder, tmp_path, capsys):
    first = trained_run(folder, tmp_path)
    file = first / "models" / "model.safetensors"

    assert weights_of(first) == first.resolve() / "models" / "model.safetensors"
    assert weights_of(file) == file
    out = tmp_path / "second"
    both = words(folder, out, "--pretrained", str(first), "--from-scratch")
    assert main(both) == 3
    assert "--from-scratch" in capsys.readouterr().err
    file.unlink()
    assert main(words(folder, out, "--pretrained", str(first))) == 2
    assert "holds no weights" in capsys.readouterr().err


def test_the_users_spacing_and_slices_are_kept_in_the_run(folder, tmp_path):
    out = tmp_path / "run"
    told = ["--spacing-um", "0.1", "0.05", "0.05", "--annotated-slices", "5,6,7"]

    code = main(words(folder, out, "--epochs", "1", "--no-calibrate", *told))

    data = json.loads((out / "datalist.json").read_text())
    facts = load_weights(weights_of(out)).metadata["facts"]
    assert code == 0
    assert facts["spacing_um"] == [0.1, 0.05, 0.05]
    assert all(case["annotated_slices"] == [5, 6, 7] for case in data["cases"])
    assert all(case["spacing_um"] == [0.1, 0.05, 0.05] for case in data["cases"])


def test_a_training_goes_on_with_changed_data_only_when_told(
    folder, tmp_path, capsys, caplog
):
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(folder, data)
    more = ("--no-calibrate", "--epochs")
    assert main(words(data, out, *more, "1")) == 0
    label = read_labels(data / "labels" / "one.tif")
    changed = label.array.copy()
    changed[8, 8, 8] = 0
    write_labels(data / "labels" / "one.tif", label.with_array(changed))
    again = ["train", "--out", str(out), "--resume", "--quiet", *more, "2"]
    capsys.readouterr()

    refused = main(again)

    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert refused == 2
    assert "one (label)" in line
    assert "--data" in line
    assert main([*again, "--data", str(data)]) == 0
    record = json.loads((out / "run.json").read_text())
    assert record["iteration"] == 8
    assert len(record["earlier_data"]) == 1
    assert "the training continues with the data" in caplog.text
    assert main([*again[:-1], "3"]) == 0


def test_a_run_is_described_by_its_own_classes(folder, tmp_path):
    out = tmp_path / "run"

    assert main(words(folder, out, "--epochs", "1", "--no-calibrate")) == 0

    metadata = json.loads((out / "configs" / "metadata.json").read_text())
    assert metadata["description"].startswith("Foreground, 3D U-Net; ")
    assert "tomogram" not in metadata["description"]

"""The verb: one line a fault, exit code 2 for errors, a repaired copy."""

import json

import numpy as np
import pytest
import tifffile

from cellseg3d.cli.main import main


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path):
    """Two pairs; the labels hold 0 and 255, one image holds NaN."""
    place = tmp_path / "volumes"
    place.mkdir()
    for seed, stem in enumerate(("a", "b")):
        label = np.zeros((8, 24, 24), np.uint8)
        label[2:6, 4 + seed : 12, 3:20] = 255
        noise = np.random.default_rng(seed).normal(0, 4, label.shape)
        image = (label + noise).astype(np.float32)
        if stem == "a":
            image[0, 0, 0] = np.nan
        tifffile.imwrite(place / f"{stem}_image.tif", image)
        tifffile.imwrite(place / f"{stem}_label.tif", label)
    return place


def test_faults_are_shown_and_the_copy_is_sound(folder, tmp_path, capsys):
    record, out = tmp_path / "found.json", tmp_path / "fixed"

    code = main(["doctor", str(folder), "--fix", str(out), "--json", str(record)])

    shown = capsys.readouterr().out
    assert code == 2
    assert "errors: 3" in shown
    assert "255 became 1" in shown
    found = json.loads(record.read_text())
    errors = [each for each in found if each["severity"] == "error"]
    names = sorted(each["file"].rsplit("/", 1)[-1] for each in errors)
    assert names == ["a_image.tif", "a_label.tif", "b_label.tif"]
    assert all(each["cause"] and each["way_out"] for each in found)
    assert all(name in shown for name in names)
    assert main(["doctor", str(out)]) == 0
    assert "errors: 0" in capsys.readouterr().out


def test_one_pair_is_examined_alone(folder, capsys):
    words = ["doctor", "--image", str(folder / "b_image.tif")]
    words += ["--label", str(folder / "b_label.tif"), "--classes", "2"]

    assert main(words) == 2

    shown = capsys.readouterr().out
    assert "holds only 0 and 255" in shown
    assert "validation" not in shown


def test_half_a_pair_is_refused(folder, capsys):
    assert main(["doctor", "--image", str(folder / "b_image.tif")]) == 3

    assert "--label and --classes" in capsys.readouterr().err


def test_a_training_asks_the_doctor_first(folder, tmp_path, capsys):
    out = tmp_path / "run"

    assert main(["train", "--data", str(folder), "--out", str(out)]) == 2

    error = capsys.readouterr().err
    assert "_image.tif: 1 voxel is NaN" in error
    assert "2 more above" in error
    assert not out.exists()


def test_a_repair_is_offered_and_options_are_those_of_the_verb(folder, capsys):
    assert main(["doctor", str(folder)]) == 2

    shown = capsys.readouterr().out
    assert f"next: cellseg3d doctor {folder} --fix OUT" in shown
    assert "give --spacing-um" in shown


def test_the_users_spacing_is_taken(folder, capsys):
    words = ["--spacing-um", "1", "0.2", "0.2"]

    assert main(["doctor", str(folder), *words]) == 2

    assert "spacing is unknown" not in capsys.readouterr().out

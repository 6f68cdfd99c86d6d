"""What values of a prediction and its truth mean; refused where they differ."""

import json

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.targets import BORDER_CORE
from cellseg3d.io.registry import write_labels
from cellseg3d.scoring.meaning import Meaning, check_shared, meaning_of

NAMES = ("background", "mitochondrion")


def raw_truth():
    """Four values; only 2 is what was learned."""
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[:, :4] = 1
    truth[:, 4:6, :4] = 2
    truth[:, 6:] = 4
    return truth


def predicted(folder, array, **model):
    path = folder / "a_labels.tif"
    write_labels(path, Volume(array.astype(np.uint8)))
    known = {"name": "net", "classes": list(NAMES), **model}
    record = {"segmentation": {"models": [known]}}
    (folder / "a_labels.json").write_text(json.dumps(record))
    return path


def evaluate(tmp_path, prediction, truth, *words):
    out = tmp_path / "scores.json"
    code = main(["evaluate", str(prediction), str(truth), *words, "--json", str(out)])
    return json.loads(out.read_text()) if code == 0 else code


def test_the_truth_is_read_with_the_label_map_of_the_training(tmp_path, capsys):
    truth = raw_truth()
    write_labels(tmp_path / "truth.tif", Volume(truth))
    file = predicted(tmp_path, truth == 2, label_map={"1": 0, "2": 1, "4": 0})

    scores = evaluate(tmp_path, file, tmp_path / "truth.tif")

    assert list(scores["volumes"]["a"]) == ["mitochondrion"]
    assert scores["volumes"]["a"]["mitochondrion"]["dice"] == 1
    said = capsys.readouterr().out
    assert "label map of the training: 1 is 0, 2 is 1, 4 is 0" in said


def test_ids_count_as_foreground_where_the_training_had_ids(tmp_path, capsys):
    ids = raw_truth()
    ids[0, 0, 0] = 255  # an object like any other
    write_labels(tmp_path / "truth.tif", Volume(ids))
    file = predicted(tmp_path, ids > 0, labels="objects")

    scores = evaluate(tmp_path, file, tmp_path / "truth.tif")

    assert scores["volumes"]["a"]["mitochondrion"]["dice"] == 1
    assert scores["volumes"]["a"]["mitochondrion"]["tp"] == (ids > 0).sum()
    assert "was trained on object ids" in capsys.readouterr().out


def test_the_users_map_wins(tmp_path):
    truth = raw_truth()
    write_labels(tmp_path / "truth.tif", Volume(truth))
    file = predicted(tmp_path, truth == 4, label_map={"1": 0, "2": 1, "4": 0})

    words = ["--map", "4:1,1:0,2:0"]
    scores = evaluate(tmp_path, file, tmp_path / "truth.tif", *words)

    assert scores["volumes"]["a"]["mitochondrion"]["dice"] == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({}, ["2, 4", "0 background, 1 mitochondrion", "--map"]),
        ({"label_map": {"32": 1}}, ["1, 2, 4", "--map"]),
        ({"classes": list(BORDER_CORE)}, ["core and border", "--objects"]),
    ],
)
def test_values_that_mean_different_things_are_refused(tmp_path, capsys, model, words):
    truth = raw_truth()
    write_labels(tmp_path / "truth.tif", Volume(truth))
    file = predicted(tmp_path, truth == 2, **model)

    assert evaluate(tmp_path, file, tmp_path / "truth.tif") == 2

    line = capsys.readouterr().err
    assert all(word in line for word in words)
    assert line.count("\n") == 1


def test_a_truth_that_is_in_classes_already_is_taken_as_it_is():
    known = Meaning("net", NAMES, label_map={32: 1, 64: 0})

    assert known.truth_map({0, 1, 255}, "t.tif") == (None, "")
    assert known.truth_map({0, 32}, "t.tif")[0] == {32: 1, 64: 0}


def test_a_truth_that_may_be_either_is_refused():
    known = Meaning("net", NAMES, label_map={1: 0, 2: 1})

    with pytest.raises(LabelError, match=r"1:1 for classes, 1:0 for training"):
        known.truth_map({0, 1}, "t.tif")


def test_strangers_without_a_value_in_common_are_refused():
    with pytest.raises(LabelError, match=r"32, 64.* 1; their values mean different"):
        check_shared({0, 1}, {0, 32, 64, 255}, "p.tif", "t.tif")
    check_shared({0}, {0, 32}, "p.tif", "t.tif")
    check_shared({0, 1}, {0, 1, 2}, "p.tif", "t.tif")


@pytest.mark.parametrize("text", ["[", '{"segmentation": {"models": [3]}}'])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "a_labels.json").write_text(text)

    with pytest.raises(ConfigError, match=r"a_labels\.json"):
        meaning_of(str(tmp_path / "a_labels.tif"))


def test_another_json_of_that_name_is_no_record(tmp_path):
    (tmp_path / "a_labels.json").write_text('{"made_by": "hand"}')

    assert meaning_of(str(tmp_path / "a_labels.tif")) is None


@pytest.mark.parametrize("verb", ["evaluate", "measure"])
def test_the_users_spacing_wins_and_is_said(tmp_path, capsys, caplog, verb):
    cube = np.zeros((6, 8, 8), np.uint8)
    cube[2:4, 2:6, 2:6] = 1
    for name in ("one.mrc", "two.mrc"):
        write_labels(tmp_path / name, Volume(cube, Spacing(1e-4, 1e-4, 1e-4)))
    out = tmp_path / "out.json"
    files = [str(tmp_path / "one.mrc")]
    if verb == "evaluate":
        files += [str(tmp_path / "two.mrc"), "--surface"]
    else:
        files += ["--out", str(tmp_path / "o.csv")]
    words = [verb, *files, "--spacing-um", "0.2", "0.1", "0.1", "--json", str(out)]

    assert main(words) == 0

    found = json.loads(out.read_text())
    if verb == "evaluate":
        assert found["volumes"]["one"]["1"]["tolerance_um"] == pytest.approx(0.2)
    else:
        assert found["objects"][0]["volume_um3"] == pytest.approx(32 * 0.002)
    assert "as you say, but the file states" in caplog.text


def test_measure_takes_the_names_of_classes_from_the_record(tmp_path, capsys):
    path = predicted(tmp_path, raw_truth() % 2)
    table = tmp_path / "a.csv"

    assert main(["measure", str(path), "--components", "--out", str(table)]) == 0
    assert "mitochondrion" in table.read_text()
    said = capsys.readouterr()
    assert "measured as one object" not in said.err


def test_measure_says_where_a_class_would_be_one_object(tmp_path, caplog):
    path = predicted(tmp_path, raw_truth() % 2)
    assert main(["measure", str(path), "--out", str(tmp_path / "a.csv")]) == 0

    assert "(mitochondrion) that net predicts" in caplog.text


@pytest.mark.parametrize("verb", ["measure", "objects"])
def test_an_image_in_place_of_labels_is_told(tmp_path, caplog, verb):
    image = np.random.default_rng(0).integers(0, 200, (3, 40, 40), np.uint8)
    path, out = write_labels(tmp_path / "a.tif", Volume(image)), tmp_path / "b"
    out = out.with_suffix(".csv" if verb == "measure" else ".tif")

    assert main([verb, str(path), "--out", str(out)]) == 0
    assert "seems to be an image, not labels" in caplog.text


@pytest.mark.parametrize(
    "plane",
    [
        np.kron(np.arange(1, 101).reshape(10, 10), np.ones((3, 3), int)),
        np.tile([1, 0, 0, 2, 0], (40, 8)),  # thin walls
    ],
)
def test_labels_are_not_taken_for_an_image(tmp_path, caplog, plane):
    path = write_labels(tmp_path / "a.tif", Volume(np.stack([plane] * 3)))

    assert main(["measure", str(path), "--out", str(tmp_path / "a.csv")]) == 0
    assert "seems to be an image" not in caplog.text


def test_a_map_of_absent_values_is_told(tmp_path, capsys):
    truth = raw_truth()
    write_labels(tmp_path / "truth.tif", Volume(truth))
    write_labels(tmp_path / "a.tif", Volume((truth == 4).astype(np.uint8)))

    words = ["--map", "4:1,1:0,2:0,9:1", "--map-prediction", "7:1"]
    scores = evaluate(tmp_path, tmp_path / "a.tif", tmp_path / "truth.tif", *words)

    assert scores["volumes"]["a"]["1"]["dice"] == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "no voxel of the truth holds 9, which --map renames" in told
    assert "no voxel of the prediction holds 7, which --map-prediction renames" in told


def test_a_map_that_renames_nothing_does_not_say_what_values_mean(tmp_path, capsys):
    truth = raw_truth()
    write_labels(tmp_path / "truth.tif", Volume(truth * 16))
    write_labels(tmp_path / "a.tif", Volume(truth))
    files = [str(tmp_path / "a.tif"), str(tmp_path / "truth.tif")]

    code = main(["evaluate", *files, "--map", "9:1"])

    assert code == 2
    assert "mean different things" in " ".join(capsys.readouterr().err.split())

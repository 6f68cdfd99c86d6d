"""``cellseg3d evaluate``: files in, the right numbers and refusals out."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels

SPACING = Spacing(0.05, 0.04, 0.03)


def save(path, array, spacing=SPACING):
    path.parent.mkdir(exist_ok=True)
    write_labels(path, Volume(np.asarray(array), spacing))
    return str(path)


def two_classes():
    """A truth of two classes, and a prediction with known mistakes."""
    truth = np.zeros((4, 10, 10), np.uint8)
    truth[:, 2:8, 2:8] = 1
    truth[:, 4:6, 4:6] = 2
    prediction = truth.copy()
    prediction[0, 2:8, 2:8] = 0  # one slice missed: 36 voxels, 4 of them nucleus
    prediction[1, 0, :5] = 1  # five voxels imagined
    return prediction, truth


def evaluate(tmp_path, *words):
    out = tmp_path / "scores.json"

    code = main(["evaluate", *map(str, words), "--json", str(out)])

    return json.loads(out.read_text()) if code == 0 else code


def test_scores_of_two_files_are_those_counted_by_hand(tmp_path):
    prediction, truth = two_classes()
    one = save(tmp_path / "p" / "cell.tif", prediction)
    two = save(tmp_path / "t" / "cell.tif", truth)

    scores = evaluate(tmp_path, one, two, "--classes", "background,cytoplasm,nucleus")

    cytoplasm = scores["volumes"]["cell"]["cytoplasm"]
    assert (cytoplasm["tp"], cytoplasm["fp"], cytoplasm["fn"]) == (96, 5, 32)
    assert cytoplasm["dice"] == pytest.approx(2 * 96 / (2 * 96 + 37))
    assert cytoplasm["jaccard"] == pytest.approx(96 / 133)
    assert cytoplasm["precision"] == pytest.approx(96 / 101)
    assert cytoplasm["recall"] == pytest.approx(0.75)
    assert scores["volumes"]["cell"]["nucleus"]["dice"] == pytest.approx(6 / 7)
    assert scores["volumes"]["cell"]["foreground"]["tp"] == 108
    assert scores["voxels"]["cell"]["accuracy"] == pytest.approx(1 - 41 / 400)
    assert scores["mean"]["nucleus"]["dice"] == pytest.approx(6 / 7)
    assert scores["mean"]["nucleus"]["n"] == 1


def test_folders_pair_by_stem_and_name_what_is_left_over(tmp_path, capsys):
    prediction, truth = two_classes()
    for name in ("a", "b", "c"):
        save(tmp_path / "t" / f"{name}.tif", truth)
    save(tmp_path / "p" / "a_labels.tif", truth)
    save(tmp_path / "p" / "b_labels.tif", prediction)
    save(tmp_path / "p" / "extra.tif", prediction)

    scores = evaluate(tmp_path, tmp_path / "p", tmp_path / "t")

    assert set(scores["volumes"]) == {"a", "b"}
    assert scores["volumes"]["a"]["2"]["dice"] == 1.0
    assert scores["mean"]["2"]["dice"] == pytest.approx((1 + 6 / 7) / 2)
    assert scores["mean"]["2"]["n"] == 2
    assert [path.endswith("c.tif") for path in scores["unmatched"]["truths"]] == [True]
    assert "extra.tif" in capsys.readouterr().out


def test_a_class_in_neither_is_undefined_and_a_missed_one_scores_zero(tmp_path):
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[:, 2:6, 2:6] = 1
    save(tmp_path / "p" / "a.tif", np.zeros_like(truth))
    save(tmp_path / "t" / "a.tif", truth)
    truth[:, 4:6] = 2
    save(tmp_path / "p" / "b.tif", truth)
    save(tmp_path / "t" / "b.tif", truth)

    scores = evaluate(tmp_path, tmp_path / "p", tmp_path / "t", "--surface")

    missed = scores["volumes"]["a"]["1"]
    assert (missed["dice"], missed["precision"], missed["nsd"]) == (0.0, 0.0, 0.0)
    assert missed["hd95_um"] == "inf"
    assert scores["mean"]["1"]["dice"] == 0.5
    assert scores["mean"]["1"]["hd95_um"] == "inf"
    assert scores["mean"]["2"]["n_undefined"]["dice"] == 1
    assert scores["mean"]["2"]["dice"] == 1.0


def test_unannotated_voxels_count_nowhere(tmp_path):
    prediction, truth = two_classes()
    truth[0] = 255
    truth[1, 0] = 255
    one = save(tmp_path / "p.tif", prediction)
    two = save(tmp_path / "t.tif", truth)

    scores = evaluate(tmp_path, one, two)

    assert scores["volumes"]["p"]["1"]["dice"] == 1.0
    assert scores["voxels"]["p"] == {"accuracy": 1.0, "annotated_voxels": 290}


def test_the_csv_holds_one_row_for_each_volume_and_class(tmp_path):
    prediction, truth = two_classes()
    one = save(tmp_path / "p.tif", prediction)
    two = save(tmp_path / "t.tif", truth)

    assert main(["evaluate", one, two, "--csv", str(tmp_path / "s.csv")]) == 0

    with (tmp_path / "s.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table] == ["1", "2", "foreground"]
    assert float(table[1]["dice"]) == pytest.approx(6 / 7)


def test_object_ids_score_by_place_and_never_by_value(tmp_path):
    ids = np.arange(1, 301, dtype=np.uint16).reshape(3, 10, 10)
    one = save(tmp_path / "p.tif", 301 - ids)
    two = save(tmp_path / "t.tif", ids)

    scores = evaluate(tmp_path, one, two, "--objects")

    objects = scores["objects"]["p"]["foreground"]
    assert (objects["pq"], objects["n_true"]) == (1.0, 300)
    assert scores["volumes"]["p"]["foreground"]["dice"] == 1.0


def test_components_of_a_class_score_as_objects(tmp_path):
    truth = np.zeros((3, 12, 12), np.uint8)
    truth[:, 1:4, 1:4] = truth[:, 6:10, 6:10] = 1
    prediction = truth.copy()
    prediction[:, 1:4, 1:4] = 0
    one = save(tmp_path / "p.tif", prediction)
    two = save(tmp_path / "t.tif", truth)

    scores = evaluate(tmp_path, one, two, "--components")

    objects = scores["objects"]["p"]["1"]
    assert (objects["tp"], objects["fp"], objects["fn"]) == (1, 0, 1)
    assert objects["object_recall"] == 0.5
    assert objects["misses"] == 1


def test_values_are_mapped_on_request(tmp_path):
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[:, 2:6] = 255
    one = save(tmp_path / "p.tif", (truth > 0).astype(np.uint8))
    two = save(tmp_path / "t.tif", truth)

    scores = evaluate(tmp_path, one, two, "--map", "255:1")

    assert scores["volumes"]["p"]["1"]["dice"] == 1.0


def test_a_datalist_gives_truth_classes_and_label_map(tmp_path):
    prediction, truth = two_classes()
    save(tmp_path / "p" / "cell_labels.tif", prediction)
    save(tmp_path / "d" / "cell_label.tif", np.array([0, 7, 9], np.uint8)[truth])
    save(tmp_path / "d" / "cell_image.tif", truth)
    case = {"name": "cell", "image": "cell_image.tif", "label": "cell_label.tif"}
    values = {
        "name": "cells",
        "classes": ["background", "cytoplasm", "nucleus"],
        "label_map": {"7": 1, "9": 2},
        "cases": [{**case, "group": "g"}],
    }
    datalist = tmp_path / "d" / "datalist.json"
    datalist.write_text(json.dumps(values))

    scores = evaluate(tmp_path, tmp_path / "p", "--datalist", datalist)

    assert scores["volumes"]["cell"]["nucleus"]["dice"] == pytest.approx(6 / 7)
    assert scores == evaluate(tmp_path, tmp_path / "p", datalist)


@pytest.mark.parametrize(
    ("prediction", "truth", "words"),
    [
        (np.ones((2, 4, 6)), np.ones((2, 6, 4)), ["(2, 4, 6)", "(2, 6, 4)", "transp"]),
        (np.ones((2, 4, 4)), np.full((2, 4, 4), 300), ["300", "--objects"]),
        (np.full((2, 4, 4), 255), np.ones((2, 4, 4)), ["p.tif", "--map-prediction"]),
        (np.ones((1, 2, 2)), [[[0, 255], [0, 255]]], ["t.tif", "--map 255:1"]),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(
    tmp_path, capsys, prediction, truth, words
):
    one = save(tmp_path / "p.tif", np.asarray(prediction).astype(np.uint16))
    two = save(tmp_path / "t.tif", np.asarray(truth).astype(np.uint16))

    assert evaluate(tmp_path, one, two) == 2

    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert all(word in message for word in words)


def test_another_spacing_is_refused(tmp_path, capsys):
    labels = np.ones((2, 4, 4), np.uint8)
    one = save(tmp_path / "p.tif", labels)
    two = save(tmp_path / "t.tif", labels, Spacing(1, 1, 1))

    assert evaluate(tmp_path, one, two) == 2

    assert "spacing" in capsys.readouterr().err


def test_distances_need_a_spacing_from_somewhere(tmp_path, capsys):
    labels = np.zeros((3, 6, 6), np.uint8)
    labels[:, 2:4, 2:4] = 1
    path = save(tmp_path / "p.tif", labels, None)

    assert evaluate(tmp_path, path, path, "--surface") == 2
    assert "p.tif: has no spacing" in capsys.readouterr().err
    scores = evaluate(
        tmp_path, path, path, "--surface", "--spacing-um", "2", "1", "0.5"
    )

    assert scores["volumes"]["p"]["1"]["hausdorff_um"] == 0.0
    assert scores["volumes"]["p"]["1"]["tolerance_um"] == 2.0


def test_a_wrong_map_is_an_option_error(tmp_path, capsys):
    path = save(tmp_path / "p.tif", np.ones((2, 4, 4), np.uint8))

    assert main(["evaluate", path, path, "--map", "a:b"]) == 3

    assert "OLD:NEW" in capsys.readouterr().err


def test_scoring_loads_no_network(tmp_path):
    prediction, truth = two_classes()
    one = save(tmp_path / "p.tif", prediction)
    two = save(tmp_path / "t.tif", truth)
    words = ["evaluate", one, two, "--surface", "--components"]
    code = (
        "import sys\nfrom cellseg3d.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        "assert not {'torch', 'monai', 'ignite'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

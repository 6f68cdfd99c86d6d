from dataclasses import replace

import numpy as np
import pytest

from cellseg3d.benchmark.dataset import WrittenFold
from cellseg3d.benchmark.scores import score_case
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import write_labels


@pytest.fixture
def fold(datalist_path):
    datalist = load_datalist(datalist_path)
    cases = tuple(replace(case, split="test") for case in datalist.cases)
    return WrittenFold(datalist_path, replace(datalist, cases=cases), ())


def predict(path, labels):
    # No voxel size in the file: scoring takes it from the truth.
    write_labels(path, Volume(labels))
    return str(path)


def test_the_truth_scores_full_marks(fold, ball_labels, tmp_path):
    labels = predict(tmp_path / "p.tif", (ball_labels > 0).astype(np.uint8))

    scores = score_case(labels, fold.tests[0], fold, "ball")["scores"]

    assert scores["dice"] == scores["jaccard"] == scores["object_f1"] == 1
    assert scores["hd95_um"] == scores["assd_um"] == 0
    assert scores["n_true"] == scores["n_predicted"] == 2


def test_a_ball_that_is_missed_costs_half_of_the_voxels_and_one_object(
    fold, ball_labels, tmp_path
):
    labels = predict(tmp_path / "p.tif", (ball_labels == 1).astype(np.uint8))

    scores = score_case(labels, fold.tests[0], fold, "ball")["scores"]

    assert scores["dice"] == pytest.approx(2 / 3)
    assert scores["jaccard"] == pytest.approx(1 / 2)
    assert scores["object_f1"] == pytest.approx(2 / 3)
    # From the centre of the missed ball to the other one: 10 voxels of 0.1 um in y
    # and in x, less about one radius.
    assert 0.7 < scores["hd95_um"] < 1.5


def test_a_shift_of_one_voxel_is_one_voxel_in_um(fold, ball_labels, tmp_path):
    shifted = np.roll((ball_labels > 0).astype(np.uint8), 1, axis=0)
    labels = predict(tmp_path / "p.tif", shifted)

    scores = score_case(labels, fold.tests[0], fold, "ball")["scores"]

    assert scores["hd95_um"] == pytest.approx(0.2)
    assert 0 < scores["assd_um"] < 0.2


def test_objects_are_matched_to_true_ids_where_the_truth_has_ids(
    fold, ball_labels, tmp_path
):
    # The truth says that two touching halves are two objects; components see one.
    ids = np.zeros((16, 24, 24), np.uint16)
    ids[4:12, 4:12, 4:8], ids[4:12, 4:12, 8:12] = 1, 2
    write_labels(tmp_path / "ids.tif", Volume(ids))
    case = replace(fold.tests[0], label=str(tmp_path / "ids.tif"))
    datalist = replace(fold.datalist, labels="objects")
    labels = predict(tmp_path / "p.tif", (ids > 0).astype(np.uint8))

    scores = score_case(labels, case, replace(fold, datalist=datalist), "ball")[
        "scores"
    ]

    assert scores["dice"] == 1
    assert (scores["n_true"], scores["n_predicted"]) == (2, 1)
    assert scores["object_f1"] < 0.7


def test_without_a_voxel_size_no_distance_is_made_up(fold, ball_labels, tmp_path):
    write_labels(tmp_path / "t.tif", Volume((ball_labels > 0).astype(np.uint8)))
    case = replace(fold.tests[0], label=str(tmp_path / "t.tif"))
    labels = predict(tmp_path / "p.tif", (ball_labels > 0).astype(np.uint8))

    scores = score_case(labels, case, fold, "ball")["scores"]

    assert scores["dice"] == 1
    assert "hd95_um" not in scores

"""Pictures, meshes, tables and charts hold what the volumes hold."""

import base64
import io
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_case import SPACING, predicted_ids, true_ids, write_case, write_run

from cellseg3d.core.errors import ConfigError, InputError, LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Datalist
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.metrics.calibration import roc_curve
from cellseg3d.report.charts import (
    Axes,
    Interval,
    Line,
    interval_chart,
    line_chart,
    scatter_chart,
    ticks,
)
from cellseg3d.report.evaluation import score_volumes
from cellseg3d.report.figures import calibration_charts
from cellseg3d.report.folders import Located, locate
from cellseg3d.report.inputs import (
    ReportVolume,
    check_volume,
    open_volumes,
    settle_kind,
)
from cellseg3d.report.legend import legend_of
from cellseg3d.report.methods import methods_paragraph, training_names
from cellseg3d.report.montage import agreement, pack
from cellseg3d.report.object_rows import inner_voxel, object_rows
from cellseg3d.report.object_sets import object_sets
from cellseg3d.report.run_folder import read_run
from cellseg3d.report.surfaces import surfaces, triangulate


def report_volume(predicted, truth=None, image=None, spacing=SPACING):
    volumes = [
        None if array is None else Volume(array, spacing)
        for array in (predicted, truth, image)
    ]
    return ReportVolume("v", *volumes, {}, spacing, {"prediction": "p", "truth": "t"})


def picture_of(address):
    data = base64.b64decode(address.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


def untiled(picture, shape, columns):
    depth, height, width = shape
    rows = picture.reshape(-1, height, columns, width).swapaxes(1, 2)
    return rows.reshape(-1, height, width)[:depth]


def test_the_pictures_of_labels_hold_every_voxel():
    volume = report_volume(predicted_ids(), true_ids())

    legend = legend_of([volume], ids=True)
    montage = pack(volume, legend)

    for address, labels in (
        (montage.prediction, predicted_ids()),
        (montage.truth, true_ids()),
    ):
        picture = untiled(picture_of(address), montage.shape, montage.columns)
        np.testing.assert_array_equal(np.rint(picture / legend.step), labels)
    assert montage.step == (1, 1, 1)
    shown = agreement(volume, ids=True)
    assert (shown == 1).sum() == 400 + 570  # Box 1, and 19 of 20 columns of box 3.
    assert (shown == 2).sum() == 30 + 60  # The shift, and the false box.
    assert (shown == 3).sum() == 400 + 30  # Box 2, and the shift.


def test_a_large_volume_is_thinned_and_its_worst_slices_still_found():
    truth = np.zeros((40, 60, 50), np.uint8)
    predicted = truth.copy()
    predicted[23, 10:50, 10:40] = 1
    volume = report_volume(predicted, truth, image=predicted)

    montage = pack(volume, legend_of([volume], ids=True), most=5000)

    assert np.prod(montage.shape) <= 5000
    assert montage.worst[0] == [[23 // montage.step[0], 1200, 0]]
    picture = untiled(picture_of(montage.image), montage.shape, montage.columns)
    assert picture.shape == montage.shape


def test_wrong_classes_are_shown_but_not_for_ids():
    truth, predicted = np.full((1, 4, 4), 1, np.uint8), np.full((1, 4, 4), 2, np.uint8)
    truth[0, 0, 0] = 255
    volume = report_volume(predicted, truth)

    codes = agreement(volume, ids=False)

    assert codes[0, 0, 0] == 0
    assert (codes.ravel()[1:] == 4).all()
    assert (agreement(volume, ids=True) == 1).all()


def test_the_surface_of_a_ball_has_its_area_and_faces_outward():
    z, y, x = np.indices((30, 60, 60))
    place = np.stack([(z + 0.5) * 0.2, (y + 0.5) * 0.1, (x + 0.5) * 0.1], -1) - 3
    ball = (np.linalg.norm(place, axis=-1) < 2).astype(np.uint8)

    points, triangles, normals, colours = triangulate(ball, SPACING.zyx, 72)

    corners = points[triangles]
    sides = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(*sides), axis=1).sum() / 2
    # Voxel steps of 0.1 um, smoothed: some per cent of 4 pi r^2.
    assert area == pytest.approx(4 * np.pi * 4, rel=0.05)
    outward = (points - 3) / np.linalg.norm(points - 3, axis=1, keepdims=True)
    assert np.median((outward * normals).sum(1)) > 0.97
    assert np.linalg.norm(points - 3, axis=1).mean() == pytest.approx(2, rel=0.03)
    assert (colours == 1).all()


def test_surfaces_stay_small_and_fit_their_types():
    rng = np.random.default_rng(0)
    speckle = (rng.random((60, 60, 60)) < 0.3).astype(np.uint8)

    volume = report_volume(speckle, speckle)
    packed = surfaces(volume, legend_of([volume], ids=False))

    assert 0 < packed["prediction"][0]["count"] <= 30_000
    points = np.frombuffer(base64.b64decode(packed["truth"][0]["points"]), "<i2")
    assert np.abs(points.astype(int)).max() <= packed["truth"][0]["radius"]
    for empty in (np.zeros((4, 4, 4), np.uint8), np.ones((1, 4, 4), np.uint8)):
        volume = report_volume(empty)
        assert surfaces(volume, legend_of([volume], ids=False)) is None


def test_each_class_has_a_surface_the_largest_first():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:18, 2:18, 2:18] = 2
    labels[8:12, 8:12, 8:12] = 1
    labels[0] = 255

    names = ["background", "nucleus"]
    volume = report_volume(labels)
    packed = surfaces(volume, legend_of([volume], ids=False, classes=names))

    assert [part["kind"] for part in packed["prediction"]] == ["class 2", "nucleus"]
    inner = np.frombuffer(base64.b64decode(packed["prediction"][1]["colours"]), "u1")
    assert set(inner.tolist()) == {1}


def test_objects_are_found_extra_or_missed_with_a_place_inside():
    volume = report_volume(predicted_ids(), true_ids())

    rows, total = object_rows(volume, object_sets(volume, ids=True))

    assert total == 4
    states = {(row["id"], row["state"]) for row in rows}
    assert states == {(7, "found"), (9, "found"), (4, "extra"), (2, "missed")}
    by_id = {row["id"]: row for row in rows}
    assert by_id[7]["iou"] == 1
    assert by_id[9]["iou"] == pytest.approx(19 / 21, abs=1e-3)
    assert by_id[7]["size"] == pytest.approx(400 * 0.002)
    assert rows[-1]["id"] == 7  # Doubtful ones first.
    for row in rows:
        labels = true_ids() if row["state"] == "missed" else predicted_ids()
        assert labels[tuple(row["place"])] == row["id"]


def test_objects_of_class_labels_are_the_pieces_of_each_class():
    truth = np.array([[[1, 1, 0, 1, 2, 2, 255, 255]]], np.uint8)
    predicted = np.array([[[1, 1, 0, 0, 1, 2, 2, 1]]], np.uint8)
    volume = report_volume(predicted, truth, spacing=None)

    sets = object_sets(volume, ids=False, classes=["background", "cell"])
    rows, total = object_rows(volume, sets)

    states = {(row["kind"], row["state"], *row["place"][2:]) for row in rows}
    assert total == 5
    assert states == {
        ("cell", "found", 0),
        ("cell", "extra", 4),
        ("cell", "missed", 3),
        ("class 2", "extra", 5),  # IoU of 1/2 is no match.
        ("class 2", "missed", 4),
    }


def test_a_bent_object_is_pointed_at_inside_it():
    ring = np.ones((1, 9, 9), np.uint8)
    ring[0, 1:8, 1:8] = 0

    place = inner_voxel(ring, 1, (0, 1, 0, 9, 0, 9))

    assert ring[tuple(place)] == 1


def test_scores_of_the_report_are_those_of_the_metrics():
    volume = report_volume(predicted_ids(), true_ids())

    scores = score_volumes([volume], ids=True)

    tp, fp, fn = 400 + 570, 30 + 60, 400 + 30
    dice = scores.table["volumes"]["v"]["foreground"]["dice"]
    assert dice == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert scores.by_iou["foreground"][0] == pytest.approx(
        {"iou": 0.5, "precision": 2 / 3, "recall": 2 / 3, "ap": 0.5}
    )
    assert scores.by_iou["foreground"][-1]["recall"] == pytest.approx(
        1 / 3
    )  # 19/21 is below .95.
    assert score_volumes([report_volume(predicted_ids())], ids=True).table == {}


def test_ids_are_told_from_classes_by_their_number():
    few = report_volume(np.array([[[0, 1, 2, 255]]], np.uint8))
    many = report_volume(np.arange(40, dtype=np.uint16).reshape(1, 4, 10))

    assert settle_kind([few], ids=None) == ([few], False)
    assert settle_kind([few, many], ids=None) == ([few, many], True)
    assert settle_kind([many], ids=False) == ([many], False)


def test_foreground_is_scored_against_the_foreground_of_ids():
    ids = np.arange(40, dtype=np.uint16).reshape(1, 4, 10)
    foreground = (ids > 0).astype(np.uint8)

    (flat,), found = settle_kind([report_volume(foreground, ids)], ids=None)

    assert not found
    np.testing.assert_array_equal(flat.truth.read(), foreground)
    with pytest.raises(LabelError, match="`datalist`"):
        settle_kind([report_volume(foreground * 2, ids)], ids=None)


def test_the_data_check_names_what_is_wrong():
    empty = np.zeros((2, 3, 4), np.uint8)
    flat = report_volume(empty, true_ids()[:2, :3, :4] + 1, empty, spacing=None)

    check = check_volume(flat)

    assert check["labels"] == {"prediction": 0.0, "truth": 1.0}
    problems = " ".join(check["problems"])
    for words in ("spacing unknown", "image is constant", "prediction is empty"):
        assert words in problems


def test_a_datalist_says_what_the_values_of_the_truth_mean(tmp_path):
    words = write_case(tmp_path)
    paths = [words[words.index(name) + 1] for name in ("--prediction", "--truth")]
    cells = Datalist("d", ("background", "cell"), {1: 1, 2: 1, 3: 255}, ())

    (volume,) = open_volumes([Located(*paths)], datalist=cells)

    expected = np.select([true_ids() == 3, true_ids() > 0], [255, 1], 0)
    np.testing.assert_array_equal(volume.truth.read(), expected)


def test_files_must_come_in_the_same_number(tmp_path):
    write_case(tmp_path)
    prediction = str(tmp_path / "cell07.tif")

    with pytest.raises(ConfigError, match="is given 1 times but `truth` 2"):
        locate([prediction], [prediction, prediction], [], [])


def test_a_run_folder_gives_curves_and_its_best_validation(tmp_path):
    run = read_run(write_run(tmp_path / "run"))

    assert run.curve("loss") == [(10, 1), (20, 0.5), (30, 1 / 3), (40, 0.25)]
    assert run.curve("score") == [(20, 0.5), (40, 0.4)]
    assert run.best_scores() == {"cell01": {"cell": 0.5}}


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no run\.json"):
        read_run(tmp_path)


def test_the_methods_paragraph_says_what_is_recorded_and_no_more(tmp_path):
    run = read_run(write_run(tmp_path / "run"))
    volume = report_volume(predicted_ids(), true_ids())
    scores = score_volumes([volume], ids=True)

    full = methods_paragraph(run, [volume], scores, run.record["versions"])
    nothing = score_volumes([], ids=False)
    bare = methods_paragraph(None, [], nothing, {"cellseg3d": "1"})

    for words in (
        "PyTorch 2.13",
        "2 volumes (cell02, cell03)",
        "40 iterations",
        "1.5 ",
    ):
        assert words in full
    assert "1.5 minutes" in full
    assert "n = 1" in full
    assert "interval" not in full  # One volume has none.
    assert bare == "Volumes were segmented with cellseg3d 1."
    assert training_names(run) == []


def test_ticks_are_round_and_inside():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert ticks(3, 1180) == pytest.approx([250, 500, 750, 1000])
    assert ticks(-0.02, 0.011) == pytest.approx([-0.02, -0.01, 0, 0.01])


def test_curves_are_drawn_where_their_values_lie():
    line = Line("a<b", [(0, 0.0), (1, float("nan")), (2, 1.0)])

    svg = line_chart([line], Axes("x", "y", (0, 2), (0, 1)), diagonal=True)

    points = re.search(r'points="([^"]+)"', svg).group(1)
    assert points == "54.8,214.0 424.0,16.0"  # Corners of the plot; no NaN.
    assert "a&lt;b" in svg
    assert "a<b" not in svg


def test_intervals_are_drawn_only_where_they_are_known():
    known = Interval("dice", 0.5, 0.4, 0.6, [("v1", 0.4), ("v2", 0.6)])
    unknown = Interval("nsd", 0.5, float("nan"), float("nan"), [("v1", float("nan"))])

    svg = interval_chart([known, unknown], "score")

    assert svg.count('class="whisker"') == 1
    assert svg.count('class="mean"') == 2
    assert svg.count("<circle") == 2


def test_the_pareto_chart_marks_what_nothing_beats():
    points = [("fast", 1, 0.6), ("best", 9, 0.9), ("beaten", 9, 0.5)]

    svg = scatter_chart(points, Axes("minutes", "Dice"))

    assert svg.count("dot c1") == 2
    assert svg.count("dot c0") == 1


def test_costs_of_all_sizes_lie_on_a_logarithmic_axis():
    points = [("cheap", 1, 0.5), ("middle", 10, 0.6), ("dear", 100, 0.7)]

    svg = scatter_chart(points, Axes("seconds", "Dice"))

    cheap, middle, dear = map(float, re.findall(r'<circle[^>]*cx="([0-9.]+)"', svg))
    assert middle - cheap == pytest.approx(dear - middle, abs=0.2)
    assert [f">{n}<" in svg for n in (1, 10, 50, 100, 25)] == [True] * 4 + [False]


def test_names_of_points_close_together_do_not_cover_each_other():
    points = [(f"method {n}", 1 + n / 1e3, 0.5 + n / 1e3) for n in range(6)]

    svg = scatter_chart([*points, ("far away", 9, 0.9)], Axes("minutes", "Dice"))

    names = re.findall(r'<text[^>]*y="([0-9.]+)"[^>]*>method', svg)
    heights = sorted(map(float, names))
    assert len(heights) == 6
    assert min(b - a for a, b in pairwise(heights)) >= 12


def test_unknown_spacing_counts_voxels():
    volume = report_volume(predicted_ids(), true_ids(), spacing=None)

    rows, _ = object_rows(volume, object_sets(volume, ids=True))

    assert volume.unit == "voxels"
    assert {row["voxels"] for row in rows} == {60, 400, 600}
    assert {row["size"] for row in rows} == {None}
    assert Spacing(1, 1, 1).zyx == volume.edges


def test_a_folder_of_predict_brings_truth_image_and_probabilities_by_name(tmp_path):
    predicted, true = predicted_ids() > 0, true_ids() > 0
    for name in ("a", "b"):
        for kind, array in (
            ("p/{}_labels.tif", predicted),
            ("p/{}_objects.tif", predicted_ids()),
            ("t/{}.tif", true),
        ):
            path = tmp_path / kind.format(name)
            path.parent.mkdir(exist_ok=True)
            write_labels(path, Volume(array.astype(np.uint8), SPACING))
        for kind in ("p/{}_prob_background.tif", "p/{}_prob_cell.tif", "i/{}.tif"):
            path = tmp_path / kind.format(name)
            path.parent.mkdir(exist_ok=True)
            write_volume(path, Volume((predicted * 0.75).astype(np.float32), SPACING))
    p, t, i = (str(tmp_path / name) for name in "pti")

    located = locate([p], [t], [i], [p])
    volumes = open_volumes(located, classes=("background", "cell"))
    scores = score_volumes(volumes, ids=False, classes=("background", "cell"))
    charts = calibration_charts(scores)

    assert [volume.name for volume in volumes] == ["a_labels", "b_labels"]
    assert all(set(volume.probs) == {"cell"} for volume in volumes)
    assert all(volume.image is not None for volume in volumes)
    roc = roc_curve(predicted * 0.75, true.astype(np.uint8))
    row = charts["rows"][0]
    assert row[:4] == ["a_labels", "cell", f"{roc.auc:.3f}", "0.750"]
    as_ids = locate([p], [], [], [], ids=True)
    assert [Path(each.prediction).name for each in as_ids] == [
        "a_objects.tif",
        "b_objects.tif",
    ]

"""What a page says to someone who reads one for the first time."""

import json
import re

import numpy as np
import pytest
from report_case import SPACING, predicted_ids, true_ids, write_case, write_run

from cellseg3d.cli.main import main
from cellseg3d.core.colours import LABEL_COLOURS, UNKNOWN_COLOUR, colour_labels
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.report.charts import (
    Axes,
    Interval,
    Line,
    histogram_chart,
    interval_chart,
    line_chart,
)
from cellseg3d.report.evaluation import score_volumes
from cellseg3d.report.figures import overlap_charts
from cellseg3d.report.folders import Located, locate
from cellseg3d.report.inputs import ReportVolume, open_volumes
from cellseg3d.report.legend import OBJECT_CODES, legend_of
from cellseg3d.report.methods import MOST_NAMES, methods_paragraph, training_names
from cellseg3d.report.object_sets import object_sets
from cellseg3d.report.run_folder import read_run
from cellseg3d.report.sizes import size_charts, size_rows, size_tiles, sizes_of
from cellseg3d.report.tables import score_rows, tiles, volume_rows


def volume_of(predicted, truth=None, spacing=SPACING, name="v", models=()):
    labels = [None if a is None else Volume(a, spacing) for a in (predicted, truth)]
    paths = {"prediction": "p", "truth": "t"}
    return ReportVolume(name, *labels, None, {}, spacing, paths, models)


def specked():
    """A true box, found, and thirty specks of one voxel."""
    truth = np.zeros((6, 40, 40), np.uint8)
    truth[1:5, 5:15, 5:15] = 1
    predicted = truth.copy()
    predicted[::2, 20::4, 20::4] = 1
    return volume_of(predicted, truth)


def test_classes_and_objects_have_the_colours_of_label_files():
    labels = np.array([[[0, 1, 3, 255]]], np.uint8)
    ids = np.array([[[0, 1, 8, 255, 43]]], np.uint16)

    classes = legend_of([volume_of(labels)], ids=False, classes=["background", "cell"])
    objects = legend_of([volume_of(ids)], ids=True)

    assert classes.names == ("cell", "class 3", "not annotated")
    assert classes.colours == [
        *(LABEL_COLOURS[each] for each in (0, 1, 3)),
        UNKNOWN_COLOUR,
    ]
    assert classes.codes(labels).tolist() == [[[0, 1, 2, 3]]]
    codes = objects.codes(ids)
    assert codes.tolist() == [[[0, 1, 8, 1 + 254 % OBJECT_CODES, 1]]]
    shown = np.array(objects.colours)[codes]
    np.testing.assert_array_equal(shown, colour_labels(ids, ids=True))


def test_grey_values_of_codes_survive_a_browser_that_blurs_them():
    many = volume_of(np.arange(17, dtype=np.uint8).reshape(1, 1, 17))

    legend = legend_of([many], ids=False)

    grey = legend.codes(many.prediction.read()).ravel().astype(int) * legend.step
    assert grey.max() <= 255
    for blur in (-2, 2):
        np.testing.assert_array_equal(np.rint((grey + blur) / legend.step), range(17))


def test_where_specks_count_the_card_tells_what_was_found():
    scores = score_volumes([specked()], ids=False, classes=["background", "cell"])

    cards = {card["name"]: card for card in tiles(None, scores)}

    specks = 3 * 5 * 5
    card = cards["Objects found, cell"]
    assert card["value"] == "1 of 1"
    assert f"object F1 {2 / (2 + specks):.3f} " in card["note"]
    assert f"{specks} specks" in card["note"]
    assert "Object F1, cell" not in cards


def test_without_specks_the_card_is_object_f1():
    scores = score_volumes([volume_of(predicted_ids(), true_ids())], ids=True)

    cards = {card["name"]: card["value"] for card in tiles(None, scores)}

    assert cards["Object F1, foreground"] == f"{2 / 3:.3f}"


def test_one_volume_has_values_and_no_empty_columns():
    scores = score_volumes([specked()], ids=False, classes=["background", "cell"])

    table = score_rows(scores)

    assert table["head"] == ["class", "score", "value"]
    rows = {row[1]: row[2] for row in table["rows"]}
    assert rows["true objects"] == "1"
    assert rows["recall"] == "1.000"
    assert "undefined" not in str(table["rows"])
    assert volume_rows(scores, None) is None


def test_few_volumes_have_no_interval_and_no_empty_column():
    volumes = [
        volume_of(predicted_ids(), true_ids(), name=name) for name in ("a", "b", "c")
    ]

    table = score_rows(score_volumes(volumes, ids=True))

    assert table["head"] == ["class", "score", "mean", "sd", "median", "n"]
    assert "too few" in table["notes"][0]


def test_every_score_that_is_shown_is_explained():
    scores = score_volumes([specked()], ids=False)

    table = score_rows(scores)

    said = " ".join(table["meanings"]).lower()
    for score in {row[1] for row in table["rows"]} - {"true objects"}:
        word = score.replace(" (um)", "").replace("predicted objects", "predicted")
        assert word.removesuffix("s").lower() in said, score


def test_precision_is_seen_where_it_equals_ap():
    truth, predicted = true_ids(), true_ids()
    predicted[0, 0, 0] = 9  # Nothing is missed: AP is precision at each overlap.
    scores = score_volumes([volume_of(predicted, truth)], ids=True)

    (chart,) = overlap_charts(scores)

    lines = re.findall(
        r'<polyline class="line (\w+) c\d" points="([^"]+)"', chart["svg"]
    )
    styles = [style for style, _ in lines]
    assert styles == ["wide", "plain", "dashed"]
    assert lines[0][1] == lines[1][1] != lines[2][1]


def test_titles_of_axes_stand_clear_of_the_ticks():
    line = Line("rate", [(0, 0.000123456), (10, 0.000234567)])

    svg = line_chart([line], Axes("iteration", "learning rate"))

    ticks = re.findall(r'x="([0-9.]+)"[^>]*text-anchor="end">([^<]+)<', svg)
    title = float(re.search(r"translate\((\d+) ", svg).group(1))
    for right, text in ticks:
        assert float(right) - 7 * len(text) > title + 4, text


def test_long_names_are_shortened_inside_the_picture():
    name = "a_rather_long_name_of_a_class_with_an_end, Dice"

    svg = interval_chart([Interval(name, 0.5, 0.4, 0.6, [])], "score")

    shown = re.search(r'text-anchor="end">([^<]+)<title>([^<]+)<', svg)
    assert len(shown.group(1)) == 24
    assert shown.group(1).endswith("end, Dice")
    assert shown.group(2) == name


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5], [1, 10, 100, 1000], [7, 7, 7]])
def test_every_value_is_in_the_histogram(values):
    svg = histogram_chart(values, Axes("size", "objects"))

    counts = [int(each) for each in re.findall(r": (\d+)</title>", svg)]
    assert sum(counts) == len(values)
    assert len(counts) >= 5


def test_without_truth_objects_are_counted_and_measured():
    volume = volume_of(predicted_ids())
    (objects,) = object_sets(volume, ids=True)

    found = [sizes_of(volume, objects)]

    assert sorted(found[0].sizes) == pytest.approx([60 * 0.002, 0.8, 1.2])
    assert found[0].share == pytest.approx(1060 / (12 * 30 * 40))
    (tile,) = size_tiles(found, ids=True)
    assert (tile["value"], tile["note"]) == ("3", "median 0.8 um^3")
    row = size_rows(found, ids=True)["rows"][0]
    assert row == ["v", "3", "7.36 %", "2.12", "0.12", "0.8", "1.2"]
    assert size_charts(found, ids=True) == []  # Three objects need no histogram.


def test_a_2d_image_has_areas():
    volume = volume_of(np.ones((1, 4, 5), np.uint8), spacing=Spacing(9, 0.5, 0.5))
    (objects,) = object_sets(volume, ids=False)

    found = sizes_of(volume, objects)

    assert (found.unit, found.sizes.tolist()) == ("um^2", [5.0])
    assert volume_of(np.ones((1, 1, 1)), spacing=None).size_unit == "pixels"


def test_the_page_of_a_2d_image_without_truth(tmp_path):
    labels = np.zeros((1, 30, 30), np.uint8)
    labels[0, ::6, ::6] = 1
    write_labels(tmp_path / "a_labels.png", Volume(labels))
    write_volume(tmp_path / "a.png", Volume(labels * 200))
    model = {
        "name": "nuclei_unet2d",
        "classes": ["background", "nucleus"],
        "description": "Nuclei in fluorescence, 2D U-Net",
    }
    record = {"segmentation": {"models": [model]}}
    (tmp_path / "a_labels.json").write_text(json.dumps(record))
    words = ["--prediction", str(tmp_path / "a_labels.png")]
    words += ["--image", str(tmp_path / "a.png"), "--out", str(tmp_path / "p.html")]

    assert main(["report", *words]) == 0

    text = (tmp_path / "p.html").read_text()
    assert '<section id="surface"' not in text
    assert "25 pieces of nucleus" in text
    assert "Images were segmented with" in text
    assert "The model was nuclei_unet2d (Nuclei in fluorescence, 2D U-Net)." in text
    assert "not compared with a manual one" in text
    assert "undefined" not in text.partition("<script")[0]


def test_many_names_fold(tmp_path):
    folder = write_run(tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    names = [f"cell{number:03d}" for number in range(MOST_NAMES + 1)]
    record["data"]["training"] = names
    (folder / "run.json").write_text(json.dumps(record))
    run = read_run(folder)

    text = methods_paragraph(run, [], score_volumes([], ids=False), {})

    assert (
        f"trained on {len(names)} volumes and validated on 1 volume (cell01)." in text
    )
    assert training_names(run) == [("training", names)]


def test_a_record_that_is_damaged_names_no_model(tmp_path):
    words = write_case(tmp_path)
    prediction = words[words.index("--prediction") + 1]
    for damaged in ("[", '{"segmentation": []}', '{"segmentation": {"models": 3}}'):
        (tmp_path / "cell07_labels.json").write_text(damaged)

        (volume,) = open_volumes([Located(prediction)])

        assert volume.models == ()
        assert volume.classes == ()


def test_labels_beside_the_images_are_not_taken_for_images(tmp_path):
    write_case(tmp_path, "a")
    (tmp_path / "p").mkdir()
    (tmp_path / "i").mkdir()
    (tmp_path / "a.tif").rename(tmp_path / "p" / "a_labels.tif")
    (tmp_path / "a_image.tif").rename(tmp_path / "i" / "a.tif")
    (tmp_path / "a_truth.tif").rename(tmp_path / "i" / "a_labels.tif")

    (found,) = locate([str(tmp_path / "p")], [], [str(tmp_path / "i")], [])

    assert found.image == str(tmp_path / "i" / "a.tif")


def test_values_of_the_truth_are_renamed_as_told(tmp_path):
    words = write_case(tmp_path)
    out = tmp_path / "page.html"

    told = ["--map", "1:7,2:0", "--map", "3:9"]
    code = main(["report", *words, *told, "--out", str(out)])

    assert code == 0
    assert '<section id="scores"' in out.read_text()
    assert main(["report", *words, "--map", "2", "--out", str(out)]) == 3


def test_a_file_takes_truth_and_image_from_the_datalist(tmp_path):
    label, image = tmp_path / "a_truth.tif", tmp_path / "a.tif"
    cases = (Case("a", str(image), str(label), "a"),)
    known = Datalist("d", ("background", "cell"), None, cases)
    prediction = str(tmp_path / "p" / "a_labels.tif")

    (found,) = locate([prediction], [], [], [], datalist=known)
    (given,) = locate([prediction], ["t.tif"], ["i.tif"], [], datalist=known)

    assert (found.truth, found.image) == (str(label), str(image))
    assert (given.truth, given.image) == ("t.tif", "i.tif")

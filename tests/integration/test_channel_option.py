"""`measure` and `report` take the intensities of one channel of an image of several.

A report finds the channel in the datalist, or in the record of the prediction.
"""

import json

import numpy as np
import pytest
from two_stains import NAMES, SPACING, two_stains, write_stains

from cellseg3d.cli.main import main
from cellseg3d.core.errors import AxisError
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import write_labels
from cellseg3d.report.folders import Located, locate
from cellseg3d.report.inputs import open_volumes


@pytest.fixture
def files(tmp_path):
    """An image of two stains, its files and the ids of two boxes in it."""
    image, _ = two_stains(1, shape=(6, 24, 20))
    ids = np.zeros(image.shape[1:], np.uint32)
    ids[1:4, 2:9, 2:9], ids[2:5, 12:20, 8:18] = 1, 2
    place = write_stains(tmp_path / "cell.ome.tif", image)
    labels = write_labels(tmp_path / "ids.tif", Volume(ids, SPACING))
    return image, ids, place, labels


@pytest.mark.parametrize(("channel", "number"), [("actin", 1), ("0", 0)])
def test_objects_have_the_mean_of_the_channel(files, tmp_path, channel, number):
    image, ids, place, labels = files
    told = tmp_path / "told.json"
    words = ["measure", str(labels), "--image", str(place), "--channel", channel]

    out = ["--out", str(tmp_path / "t.csv"), "--json", str(told)]
    assert main([*words, *out]) == 0

    rows = json.loads(told.read_text())["objects"]
    found = [row["mean_intensity"] for row in rows]
    expected = [image[number][ids == value].mean() for value in (1, 2)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_image_of_several_channels_needs_one_named(files, tmp_path, capsys):
    _, _, place, labels = files

    out = ["--out", str(tmp_path / "t.csv")]
    assert main(["measure", str(labels), "--image", str(place), *out]) == 2

    said = capsys.readouterr().err
    assert "DAPI" in said
    assert "--channel" in said


def test_a_report_draws_the_channel(files, tmp_path, capsys):
    image, _, place, labels = files
    words = ["report", "--prediction", str(labels), "--image", str(place)]
    page = tmp_path / "report.html"

    assert main([*words, "--out", str(page)]) == 2
    assert "--channel" in capsys.readouterr().err
    assert main([*words, "--out", str(page), "--channel", "actin"]) == 0

    assert page.stat().st_size > 10_000
    (given,) = open_volumes([Located(str(labels), None, str(place))], channel="actin")
    np.testing.assert_array_equal(given.image.read(), image[1])


def listed(folder, **values):
    """Write a datalist of the image and its ids, and predictions beside it."""
    case = {"image": "cell.ome.tif", "label": "ids.tif", "name": "cell"}
    meant = {"classes": ["background", "box"], "labels": "objects"}
    place = folder / "data.json"
    place.write_text(json.dumps({**meant, **values, "cases": [case]}))
    ids = np.zeros((6, 24, 20), np.uint8)
    ids[1:4, 2:9, 2:9] = 1
    (folder / "found").mkdir()
    write_labels(folder / "found" / "cell_labels.tif", Volume(ids, SPACING))
    return place


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({"channels": ["actin", "DAPI"]}, 1),
        ({"channels": [0, 1]}, 0),
        ({"channels": 2}, 0),
        ({"channel": "actin"}, 1),
    ],
)
def test_a_report_draws_the_first_channel_of_the_datalist(
    files, tmp_path, values, number
):
    image, *_ = files
    place = listed(tmp_path, **values)
    page = tmp_path / "page.html"
    words = ["report", "--prediction", str(tmp_path / "found"), "--out", str(page)]

    assert main([*words, "--datalist", str(place)]) == 0

    cases = load_datalist(place)
    located = locate([str(tmp_path / "found")], [], [], [], datalist=cases)
    (given,) = open_volumes(located, datalist=cases)
    np.testing.assert_array_equal(given.image.read(), image[number])
    assert f"image uint16 ({NAMES[number]})" in page.read_text("utf-8")
    (other,) = open_volumes(located, datalist=cases, channel=1 - number)
    np.testing.assert_array_equal(other.image.read(), image[1 - number])


def test_the_truth_of_a_datalist_of_objects_is_its_foreground(files, tmp_path):
    """The file holds two ids, which are no classes."""
    place = listed(tmp_path, channels=2)
    words = ["report", "--prediction", str(tmp_path / "found"), "--datalist"]
    page = tmp_path / "page.html"

    assert main([*words, str(place), "--out", str(page)]) == 0

    # 147 of 387 voxels of both boxes are found, and none besides.
    assert f"{2 * 147 / (147 + 387):.3f}".lstrip("0") in page.read_text("utf-8")


@pytest.mark.parametrize("channels", [["actin"], ["channel 1"]])
def test_a_report_draws_what_the_record_names(files, tmp_path, channels):
    image, _, place, labels = files
    located = [Located(str(labels), None, str(place))]
    with pytest.raises(AxisError, match="DAPI"):
        open_volumes(located)
    record = {"segmentation": {"channels": channels}}

    (tmp_path / "ids_labels.json").write_text(json.dumps(record))

    (given,) = open_volumes(located)
    np.testing.assert_array_equal(given.image.read(), image[1])

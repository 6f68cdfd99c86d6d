"""`measure` and `report` take the intensities of one channel of an image of several."""

import json

import numpy as np
import pytest
from two_stains import SPACING, two_stains, write_stains

from cellseg3d.cli.main import main
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels
from cellseg3d.report.folders import Located
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

"""`predict --resume` and unfinished results tell the channels that they are made of."""

import json

import numpy as np
import pytest
import tifffile
from small_bundle import small_bundle
from two_stains import NAMES, SPACING, two_stains, write_stains

from cellseg3d.bundle.model import load_model
from cellseg3d.cli.main import main
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.volume import Volume
from cellseg3d.io.output.writing import write_times
from cellseg3d.io.registry import open_volume, write_volume
from cellseg3d.prediction.opening import open_for
from cellseg3d.prediction.segment import segment_to_file

EDGES = ("--spacing-um", "0.2", "0.1", "0.1")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("one") / "toy")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("two") / "toy", stains=NAMES)


@pytest.fixture(params=["named", "unnamed"])
def cell(request, tmp_path):
    image, _ = two_stains(1, shape=(6, 24, 20))
    if request.param == "named":
        return write_stains(tmp_path / "cell.ome.tif", image)
    tifffile.imwrite(
        tmp_path / "cell.tif",
        np.moveaxis(image, 0, 1),
        imagej=True,
        metadata={"axes": "ZCYX"},
    )
    return tmp_path / "cell.tif"


def predict(place, bundle, *more):
    words = ["predict", str(place), "--bundle", str(bundle), "--out"]
    words += [str(place.parent / "out"), "--format", ".tif", "--device", "cpu"]
    return main([*words, *EDGES, *more])


def test_a_result_of_another_channel_is_not_taken_for_this_one(cell, one, capsys):
    assert predict(cell, one, "--channel", "1") == 0
    record = cell.parent / "out" / "cell_labels.json"
    before = json.loads(record.read_text())["segmentation"]["channels"]
    called = "actin" if cell.name.endswith(".ome.tif") else "channel 1"
    other = "DAPI" if cell.name.endswith(".ome.tif") else "channel 0"
    assert before == [called]

    assert predict(cell, one, "--channel", "1", "--resume") == 0
    assert "is complete and was skipped" in capsys.readouterr().out
    assert predict(cell, one, "--channel", "0", "--resume") == 2

    said = capsys.readouterr().err
    assert f"was made from {called} of " in said
    assert f"not from {other}; pass --overwrite without --resume" in said


def test_a_result_of_another_order_is_not_taken_for_this_one(cell, two, capsys):
    assert predict(cell, two) == 0

    assert predict(cell, two, "--resume") == 0
    assert predict(cell, two, "--channels", "1,0", "--resume") == 2
    assert "not from channel 1, channel 0" in capsys.readouterr().err


def test_time_points_of_another_channel_are_refused(tmp_path, one, capsys):
    image, _ = two_stains(1, shape=(4, 20, 20))
    place = tmp_path / "movie.tif"
    points = np.stack([image, image + 9]).swapaxes(1, 2)
    tifffile.imwrite(place, points, imagej=True, metadata={"axes": "TZCYX"})
    assert predict(place, one, "--time", "all", "--channel", "0") == 0

    assert predict(place, one, "--time", "all", "--channel", "0", "--resume") == 0
    assert predict(place, one, "--time", "all", "--channel", "1", "--resume") == 2
    assert "was made from channel 0 of " in capsys.readouterr().err


def test_an_unfinished_result_of_another_channel_is_not_continued(cell, one):
    model, out = load_model(one), cell.parent / "labels.tif"

    def stop(done, total):
        raise KeyboardInterrupt

    edges = tuple(map(float, EDGES[1:]))
    first, second = (
        open_for(cell, [model], channel=number, spacing=edges) for number in (0, 1)
    )
    with pytest.raises(KeyboardInterrupt):
        segment_to_file(first, model, out, progress=stop)

    with pytest.raises(ConfigError, match="unfinished segmentation with another chan"):
        segment_to_file(second, model, out)


def test_numbers_of_channels_are_no_metadata_of_what_is_written(cell, tmp_path):
    volume = open_volume(cell, channel=1, spacing=(0.2, 0.1, 0.1))

    place = write_times(tmp_path / "t.ome.zarr", [volume, volume], labels=False)

    assert volume.provenance["channel_numbers"] == [1]
    assert "channel_numbers" not in open_volume(place, time=0).provenance


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--channel", "DAPI"],
            "is read as 1 channel (DAPI), but toy was trained on 2 channels (DAPI, "
            "actin); choose all of these with --channels",
        ),
        (
            None,
            "has 1 channel, but toy was trained on 2 channels (DAPI, actin); give an "
            "image with all of them, or a network of fewer channels",
        ),
    ],
)
def test_too_few_channels_for_a_network_are_told(tmp_path, two, capsys, more, said):
    image, _ = two_stains(1, shape=(4, 16, 16))
    place = write_stains(tmp_path / "cell.ome.tif", image)
    if more is None:
        place = write_volume(tmp_path / "cell.tif", Volume(image[0], SPACING))

    assert predict(place, two, *(more or [])) == 2

    assert said in capsys.readouterr().err

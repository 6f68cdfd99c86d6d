"""No default stands in for data that are missing."""

import numpy as np
import pytest

from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, write_volume
from cellseg3d.prediction.batch import tasks_of
from cellseg3d.samples import inputs
from cellseg3d.samples.inputs import list_inputs, ready_dataset
from cellseg3d.samples.monai_io import VolumeReader


@pytest.mark.parametrize("name", ["typo", "empty", "hidden", "run/data"])
def test_a_missing_or_empty_folder_is_an_error_and_stays_empty(tmp_path, name):
    place = tmp_path / name
    if name != "typo":
        place.mkdir(parents=True)
    if name == "hidden":
        (place / ".DS_Store").write_text("")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(InputError, match=place.name):
        ready_dataset(place)

    assert sorted(tmp_path.rglob("*")) == before


def test_a_bundles_own_data_folder_is_filled_and_that_is_said(
    tmp_path, monkeypatch, caplog
):
    made = []
    monkeypatch.setattr(inputs, "ensure_dataset", made.append)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")

    assert ready_dataset(tmp_path / "data") == str(tmp_path / "data")

    assert made == [tmp_path / "data"]
    assert "cells are simulated into it" in caplog.text


def test_volumes_whose_results_would_share_a_name_are_refused(tmp_path):
    for name in ("cell.fresh.tif", "CELL.fixed.tif"):
        (tmp_path / name).write_bytes(b"II*\0")

    with pytest.raises(ConfigError, match="would get the same name"):
        list_inputs(tmp_path)

    (tmp_path / "CELL.fixed.tif").rename(tmp_path / "other.tif")
    assert [each["image"] for each in list_inputs(tmp_path)] == [
        str(tmp_path / "cell.fresh.tif"),
        str(tmp_path / "other.tif"),
    ]


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_folder_of_slices_is_one_volume_for_monai_as_for_predict(tmp_path, suffix):
    stack = tmp_path / "stack"
    stack.mkdir()
    rng = np.random.default_rng(0)
    for number in range(11):
        plane = rng.integers(0, 255, (1, 6, 8), dtype=np.uint8)
        write_volume(stack / f"z{number}{suffix}", Volume(plane))

    items = list_inputs(stack)

    assert items == [{"image": str(stack)}]
    assert [task.source for task in tasks_of([str(stack)], tmp_path)] == [str(stack)]
    read = VolumeReader()
    array, _ = read.get_data(read.read(items[0]["image"]))
    assert array.shape == (11, 6, 8)
    np.testing.assert_array_equal(array, open_volume(stack).read())


def test_images_that_are_no_series_are_volumes_each_for_monai(tmp_path):
    for name in ("cell", "heart"):
        write_volume(tmp_path / f"{name}.tif", Volume(np.ones((1, 4, 4), np.uint8)))

    names = [each["image"] for each in list_inputs(tmp_path)]

    assert names == [str(tmp_path / "cell.tif"), str(tmp_path / "heart.tif")]

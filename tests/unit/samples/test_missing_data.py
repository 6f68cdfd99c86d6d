"""No default stands in for data that are missing."""

import pytest

from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.samples import inputs
from cellseg3d.samples.inputs import list_inputs, ready_dataset


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
    for name in ("cell.v1.tif", "CELL.v2.tif"):
        (tmp_path / name).write_bytes(b"II*\0")

    with pytest.raises(ConfigError, match="would get the same name"):
        list_inputs(tmp_path)

    (tmp_path / "CELL.v2.tif").rename(tmp_path / "other.tif")
    assert [each["image"] for each in list_inputs(tmp_path)] == [
        str(tmp_path / "cell.v1.tif"),
        str(tmp_path / "other.tif"),
    ]

"""A level of an OME-Zarr image that is named by itself, and shapes that do not fit."""

import json

import numpy as np
import pytest
import zarr

from cellseg3d.core.errors import FormatError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, read_volume, write_volume

SPACING = Spacing(0.3, 0.1, 0.2)


@pytest.fixture(params=["0.4", "0.5"])
def store(tmp_path, request):
    array = np.arange(9 * 140 * 130, dtype=np.uint16).reshape(9, 140, 130)
    path = tmp_path / "cell.ome.zarr"
    write_volume(path, Volume(array, SPACING), ome_zarr=request.param)
    return path


def levels(store):
    attributes = dict(zarr.open_group(store, mode="r").attrs)
    image = attributes.get("ome", attributes)["multiscales"][0]
    return [entry["path"] for entry in image["datasets"]]


def test_a_level_named_by_itself_keeps_its_spacing(store, monkeypatch):
    names = levels(store)
    whole = read_volume(store)

    for name in (store / names[0], f"{store}::{names[0]}"):
        named = read_volume(name)

        assert named.spacing == SPACING
        assert (named.array == whole.array).all()
    monkeypatch.chdir(store)
    assert open_volume(names[0]).spacing == SPACING


def test_a_higher_level_has_its_own_spacing(store):
    names = levels(store)
    assert len(names) > 1

    named = open_volume(store / names[1])

    assert named.shape == open_volume(store, level=1).shape
    assert named.spacing == open_volume(store, level=1).spacing
    assert named.spacing != SPACING


def test_no_level_can_be_chosen_of_one_array(store):
    with pytest.raises(FormatError, match="names one array, so level 1"):
        open_volume(store / levels(store)[0], level=1)


def test_an_array_of_no_image_keeps_its_own_attributes(tmp_path):
    group = zarr.open_group(tmp_path / "plain.zarr", mode="w")
    array = group.create_array("raw", shape=(2, 3, 4), dtype="u1")
    array.attrs["element_size_um"] = [0.3, 0.2, 0.1]

    found = open_volume(tmp_path / "plain.zarr" / "raw")

    assert found.spacing == Spacing(0.3, 0.2, 0.1)
    assert found.shape == (2, 3, 4)


@pytest.mark.parametrize("lost", [1, 7])
def test_a_shape_that_does_not_fit_the_next_level_is_said(store, lost):
    file = store / levels(store)[0] / "zarr.json"
    file = file if file.is_file() else file.with_name(".zarray")
    facts = json.loads(file.read_text(encoding="utf-8"))
    facts["shape"][1] -= lost
    file.write_text(json.dumps(facts), encoding="utf-8")

    said = " ".join(open_volume(store).provenance.get("warnings", ()))

    # One row less of an even number is what rounding may give.
    assert ("does not fit the shape" in said) == (lost > 1)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
def test_a_shape_that_differs_from_consolidated_metadata_is_said(tmp_path, version):
    path = tmp_path / "plain.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=version)
    array = group.create_array("raw", shape=(6, 7, 8), dtype="u1", chunks=(4, 4, 4))
    array[:] = 3
    zarr.consolidate_metadata(path)
    assert "warnings" not in open_volume(path).provenance
    file = path / "raw" / ("zarr.json" if version == 3 else ".zarray")
    facts = json.loads(file.read_text(encoding="utf-8"))
    facts["shape"][0] = 5
    file.write_text(json.dumps(facts), encoding="utf-8")

    said = " ".join(open_volume(path).provenance["warnings"])

    assert "shape (5, 7, 8), but those of the whole store (6, 7, 8)" in said

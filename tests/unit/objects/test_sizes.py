"""Sizes of training objects, the least of them for a decoder, and specks in words."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.objects.label import label_objects
from cellseg3d.objects.options import ObjectOptions
from cellseg3d.objects.sizes import converted, least_size_note, training_sizes
from cellseg3d.prediction.tune_objects import decoder_of

SPACING = Spacing(0.2, 0.1, 0.1)


def cubes(*sides):
    """Labels with one cube of each side, apart; ids 1, 2, ..."""
    ids = np.zeros((12, 12, 14 * len(sides)), np.uint16)
    for number, side in enumerate(sides):
        start = 14 * number + 1
        ids[1 : 1 + side, 1 : 1 + side, start : start + side] = number + 1
    return ids


def datalist(folder, ids, kind, spacing):
    write_volume(folder / "a.tif", Volume(np.ones(ids.shape, np.uint8), spacing))
    write_labels(folder / "a_ids.tif", Volume(ids, spacing))
    case = {"image": "a.tif", "label": "a_ids.tif"}
    values = {"classes": ["background", "cell"], "labels": kind, "cases": [case]}
    (folder / "datalist.json").write_text(json.dumps(values))
    return load_datalist(folder)


@pytest.mark.parametrize("kind", ["objects", "classes"])
@pytest.mark.parametrize(("spacing", "voxel"), [(None, 1), (SPACING, 0.002)])
def test_sizes_are_those_of_the_objects_in_the_labels(tmp_path, kind, spacing, voxel):
    ids = cubes(4, 6, 10)
    data = datalist(tmp_path, ids if kind == "objects" else ids > 0, kind, spacing)

    sizes = training_sizes(data.cases, data)

    volumes = np.array([64, 216, 1000]) * voxel
    np.testing.assert_allclose(np.sort(sizes.volumes["cell"]), volumes)
    assert sizes.unit == ("um" if spacing else "voxels")
    assert sizes.least == pytest.approx(0.5 * np.quantile(volumes, 0.05))
    assert sizes.mean == pytest.approx(volumes.mean())


def test_labels_without_objects_have_no_sizes(tmp_path):
    data = datalist(tmp_path, cubes(4) * 0, "classes", None)

    assert training_sizes(data.cases, data) is None


def test_specks_are_left_out_and_counted():
    labels = (cubes(10, 9, 1, 1, 2) > 0).astype(np.uint8)
    options = ObjectOptions("components", min_volume_um3=100)

    found = label_objects(labels, None, options)

    assert (found.count, found.specks) == (2, 3)
    assert least_size_note(found) == "3 specks smaller than 100 voxels were left out"


def test_specks_are_told_where_no_least_size_is_known():
    labels = (cubes(10, 9, 1, 1, 2) > 0).astype(np.uint8)

    note = least_size_note(label_objects(labels, None, "components"))

    assert note.startswith("3 of them are specks, smaller than 10 voxels")
    assert "`min_volume_um3`" in note


def test_objects_of_one_size_are_no_specks():
    labels = (cubes(5, 6, 5) > 0).astype(np.uint8)

    assert least_size_note(label_objects(labels, None, "components")) == ""


def test_a_decoder_speaks_in_the_unit_of_the_volume():
    options = ObjectOptions(min_volume_um3=8.0, depth_um=0.4)
    edges = Spacing(0.2, 0.2, 0.2)

    voxels = converted(options, "um", None, edges)
    back = converted(voxels, "voxels", edges, None)

    assert voxels.min_volume_um3 == pytest.approx(1000)
    assert voxels.depth_um == pytest.approx(2)
    assert back.min_volume_um3 == pytest.approx(8)
    assert converted(options, "um", edges, None) == options


def model_of(path, decoder=None):
    return SimpleNamespace(
        path=path,
        classes=("background", "cell"),
        decoder=decoder,
        spacing_um=Spacing(0.5, 0.5, 0.5),
    )


def test_weights_bring_the_sizes_of_their_training_objects(tmp_path):
    kept = {"unit": "um", "options": {"method": "components", "min_volume_um3": 2.0}}

    told = decoder_of(model_of(tmp_path, kept), SPACING)
    unknown = decoder_of(model_of(tmp_path, kept), None)

    assert (told.method, told.min_volume_um3) == ("components", 2.0)
    assert unknown.min_volume_um3 == pytest.approx(16)
    assert decoder_of(model_of(tmp_path), None) == ObjectOptions("watershed")


@pytest.mark.parametrize("text", ["[1]", "{", '{"options": 3}', '{"size": 1}'])
def test_a_damaged_decoder_is_named(tmp_path, text):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "decoder.json").write_text(text)

    with pytest.raises(ConfigError, match=r"decoder\.json"):
        decoder_of(model_of(tmp_path), None)

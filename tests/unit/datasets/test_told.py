"""What the user says about a data set beside its datalist: spacing and slices."""

import json

import numpy as np
import pytest

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.datalist import load_datalist, write_datalist
from cellseg3d.datasets.told import parse_slices, told_datalist
from cellseg3d.datasets.volumes import load_cases
from cellseg3d.io.registry import write_labels, write_volume


@pytest.fixture
def folder(tmp_path):
    label = np.zeros((10, 8, 8), np.uint8)
    label[[2, 7], 2:6, 2:6] = 1
    image = np.arange(640, dtype=np.uint16).reshape(label.shape)
    write_volume(tmp_path / "a.tif", Volume(image, Spacing(0.3, 0.1, 0.1)))
    write_labels(tmp_path / "a_label.tif", Volume(label))
    case = {"image": "a.tif", "label": "a_label.tif"}
    values = {"classes": ["background", "cell"], "cases": [case]}
    (tmp_path / "datalist.json").write_text(json.dumps(values))
    return tmp_path


def test_the_users_spacing_wins_and_is_said(folder, caplog):
    told = told_datalist(folder, spacing_um=(1, 0.2, 0.2))

    [case] = load_cases(told.cases, told)

    assert case.spacing == Spacing(1, 0.2, 0.2)
    assert "is used; 1 of 1 images" in caplog.text


def test_nothing_told_changes_nothing(folder):
    assert told_datalist(folder) is folder


@pytest.mark.parametrize(
    ("words", "kept"), [("labelled", [2, 7]), ("2,7,9", [2, 7, 9]), ("7", [7])]
)
def test_other_slices_are_not_annotated(folder, words, kept):
    told = told_datalist(folder, annotated_slices=words)
    write_datalist(told, folder / "told.json")

    [case] = load_cases(told.cases, told)
    again = load_datalist(folder / "told.json")
    [same] = load_cases(again.cases, again)

    seen = [z for z in range(10) if (case.label[z] != 255).any()]
    assert seen == kept
    assert (case.label[7] == 1).sum() == 16
    np.testing.assert_array_equal(same.label, case.label)


def test_ids_of_other_slices_are_not_annotated_either(folder):
    values = json.loads((folder / "datalist.json").read_text())
    values |= {"labels": "objects", "annotated_slices": [2]}
    (folder / "datalist.json").write_text(json.dumps(values))
    data = load_datalist(folder).aimed_at({"kind": "border-core"})

    [case] = load_cases(data.cases, data)

    assert set(np.unique(case.label[2])) == {0, 1, 2}
    assert (np.delete(case.label, 2, axis=0) == 255).all()


@pytest.mark.parametrize("words", ["", "a", "1-3", "-1", "1.5"])
def test_slices_that_are_no_numbers_are_refused(words):
    with pytest.raises(ConfigError, match="annotated slices"):
        parse_slices(words)


@pytest.mark.parametrize("value", [[], [-1], "some", [True], 3])
def test_the_datalists_key_is_checked(folder, value):
    values = json.loads((folder / "datalist.json").read_text())
    (folder / "datalist.json").write_text(
        json.dumps(values | {"annotated_slices": value})
    )

    with pytest.raises(ConfigError, match="annotated_slices"):
        load_datalist(folder)


def test_a_slice_beyond_the_volume_is_refused(folder):
    told = told_datalist(folder, annotated_slices="10")

    with pytest.raises(LabelError, match="slices 0 to 9"):
        load_cases(told.cases, told)

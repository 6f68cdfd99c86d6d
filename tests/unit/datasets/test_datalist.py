import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import yaml
import zarr

from cellseg3d.core.errors import ConfigError, InputError, LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.datalist import (
    class_names,
    load_datalist,
    num_classes,
    parse_datalist,
    resolve_datalist,
    write_datalist,
)
from cellseg3d.datasets.pairing import pair_folder
from cellseg3d.datasets.volumes import load_cases
from cellseg3d.io.registry import read_labels, read_volume

IMAGE = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
LABEL = (IMAGE % 3).astype(np.uint8)


@pytest.fixture
def two_cases(write_pair):
    for stem in "ab":
        write_pair(stem, IMAGE, LABEL)
    return [
        {"image": f"{stem}_image.tif", "label": f"{stem}_label.tif"} for stem in "ab"
    ]


def test_a_datalist_keeps_every_fact_and_resolves_paths(two_cases, write_list):
    two_cases[0] |= {
        "name": "first",
        "group": "mouse 1",
        "split": "train",
        "spacing_um": [0.05, 0.04, 0.04],
        "annotated": ["nucleus"],
    }
    path = write_list(
        two_cases,
        classes=["background", "cell", "nucleus"],
        name="mice",
        label_map={"2": 1, "5": 2},
        spacing_um=[1, 2, 3],
        intensity_unit="1/um",
    )

    found = load_datalist(path)

    assert (found.name, found.classes) == ("mice", ("background", "cell", "nucleus"))
    assert found.label_map == {2: 1, 5: 2}
    assert found.intensity_unit == "1/um"
    first, second = found.cases
    assert (first.name, first.group, first.split) == ("first", "mouse 1", "training")
    assert first.spacing == Spacing(0.05, 0.04, 0.04)
    assert first.annotated == ("nucleus",)
    assert second.spacing == Spacing(1, 2, 3)
    assert (second.name, second.group) == ("b_image", "b_image")
    assert first.image == str(path.parent / "a_image.tif")


@pytest.mark.parametrize("place", ["datalist.json", "."])
def test_the_default_name_is_that_of_the_folder_one_stands_in(
    two_cases, write_list, monkeypatch, place
):
    path = write_list(two_cases, classes=["background", "cell", "nucleus"])
    monkeypatch.chdir(path.parent)

    assert load_datalist(place).name == path.parent.name


def test_a_folder_of_pairs_is_named_from_inside_too(write_pair, tmp_path, monkeypatch):
    write_pair("a", IMAGE, LABEL)
    monkeypatch.chdir(tmp_path)

    assert load_datalist(".").name == tmp_path.name


def test_yaml_says_the_same_as_json(two_cases, write_list):
    path = write_list(two_cases, name="same")
    other = path.with_name("same.yaml")
    other.write_text(yaml.safe_dump(json.loads(path.read_text())))

    assert load_datalist(other) == load_datalist(path)


def test_writing_then_reading_keeps_a_datalist(two_cases, write_list):
    two_cases[0] |= {"split": "test", "spacing_um": [1, 1, 1], "group": "g"}
    path = write_list(two_cases, label_map={"7": 1}, allow_shared_groups=True)
    first = load_datalist(path)
    copy = path.with_name("copy.json")

    write_datalist(first, copy)

    again = load_datalist(copy)
    assert again == first
    assert json.loads(copy.read_text())["cases"][0]["image"] == "a_image.tif"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clases": ["a", "b"]}, "did you mean 'classes'"),
        ({"labels": "object"}, "did you mean 'objects'"),
        ({"classes": ["background", False]}, "expected text"),
        ({"classes": ["a", "a"]}, "twice"),
        ({"label_map": {"3": 9}}, "class index 0 to 1"),
        ({"label_map": {"x": 1}}, "not a label value"),
        ({"spacing_um": [1, 2]}, r"expected \[z, y, x\]"),
        ({"cases": []}, "expected a list of cases"),
        ({"allow_shared_groups": "no"}, "expected true or false"),
        ({"intensity_unit": "HU"}, "known: 1/um, arbitrary"),
    ],
)
def test_a_mistake_is_named_with_its_file(two_cases, write_list, change, said):
    path = write_list(two_cases)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(ConfigError, match=said) as caught:
        load_datalist(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"lable": "a_label.tif"}, ConfigError, "did you mean 'label'"),
        ({"split": "vall"}, ConfigError, "did you mean 'val'"),
        ({"annotated": ["cel"]}, ConfigError, "did you mean 'cell'"),
        ({"image": "gone.tif"}, InputError, "gone.tif does not exist"),
        ({"name": "b_image"}, ConfigError, "two cases have the name 'b_image'"),
        ({"image": "b_image.tif", "name": "c"}, ConfigError, "two cases have the im"),
    ],
)
def test_a_mistake_in_a_case_is_named(two_cases, write_list, change, error, said):
    two_cases[0] |= change

    with pytest.raises(error, match=said):
        load_datalist(write_list(two_cases))


def test_a_file_that_is_no_datalist_is_refused(tmp_path):
    path = tmp_path / "datalist.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        load_datalist(path)
    path.write_text("[]")
    with pytest.raises(ConfigError, match="holds a list"):
        load_datalist(path)
    with pytest.raises(InputError, match="does not exist"):
        load_datalist(tmp_path / "nothing")


def test_classes_are_the_defaults_until_a_dataset_is_there(two_cases, write_list):
    path = write_list(two_cases)

    assert resolve_datalist(path.parent) == path
    assert num_classes(path.parent, 7) == 2
    assert class_names(path, ["x"]) == ["background", "cell"]
    assert num_classes(path.parent / "later", 7) == 7
    assert class_names(path.parent / "later", ["x"]) == ["x"]


def test_images_and_labels_beside_each_other_pair_by_stem(write_pair, tmp_path):
    for stem in ("b", "a"):
        write_pair(stem, IMAGE, LABEL)

    found = load_datalist(tmp_path)

    assert [case.name for case in found.cases] == ["a", "b"]
    assert found.classes == ("background", "class_1", "class_2")
    assert found.cases[0].label.endswith("a_label.tif")


def test_a_file_without_a_partner_is_listed(write_pair, tmp_path):
    write_pair("a", IMAGE, LABEL)
    write_pair("b", IMAGE, None)

    with pytest.raises(InputError, match=r"1 files have no partner.*b_image\.tif"):
        load_datalist(tmp_path)


def test_two_folders_pair_by_stem_not_by_order(tmp_path):
    for folder, stems in (("imagesTr", "cab"), ("labelsTr", "bca")):
        (tmp_path / folder).mkdir()
        for stem in stems:
            end = "_0000" if folder == "imagesTr" else ""
            tifffile.imwrite(tmp_path / folder / f"{stem}{end}.tif", LABEL[0])

    found = load_datalist(tmp_path)

    names = [(case.image[-10:], case.label[-5:]) for case in found.cases]
    assert names == [(f"{s}_0000.tif", f"{s}.tif") for s in "abc"]


def test_folders_of_masks_are_objects(tmp_path):
    for name in ("one", "two"):
        for part in ("images", "masks"):
            (tmp_path / name / part).mkdir(parents=True)
        tifffile.imwrite(tmp_path / name / "images" / "i.tif", IMAGE[0])
        tifffile.imwrite(tmp_path / name / "masks" / "m.tif", LABEL[0])

    found = load_datalist(tmp_path)

    assert found.labels == "masks"
    assert [case.name for case in found.cases] == ["one", "two"]
    assert found.cases[0].label == str(tmp_path / "one" / "masks")


def test_hdf5_files_with_raw_and_label_are_cases(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["raw"], file["label"] = IMAGE, IMAGE

    found = load_datalist(tmp_path)

    assert found.labels == "objects"  # values to 59 can only be ids
    assert found.cases[0].image.endswith("v.h5::raw")
    assert found.cases[0].label.endswith("v.h5::label")


def test_a_folder_of_255_and_0_is_not_guessed(write_pair, tmp_path):
    write_pair("a", IMAGE, (LABEL > 0).astype(np.uint8) * 255)

    with pytest.raises(LabelError, match=r'"label_map": \{"255": 1\}'):
        load_datalist(tmp_path)


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"the folder is empty; name them X_image"):
        load_datalist(tmp_path)


def test_the_datalist_in_the_manual_is_one(tmp_path):
    manual = Path(__file__).parents[3] / "docs" / "datalists.md"
    text = manual.read_text().split("```json")[1].split("```")[0]
    for name in ("c1.mrc", "c1_label.tif", "c2.mrc", "c2_label.tif", "stack.h5"):
        (tmp_path / name).touch()
    path = tmp_path / "datalist.json"
    path.write_text(text)

    found = load_datalist(path)

    assert [case.split for case in found.cases] == [None, "test", None]
    assert found.cases[2].label.endswith("stack.h5::label")


def test_labels_that_changed_are_read_anew(write_pair, tmp_path):
    write_pair("a", IMAGE, LABEL)
    assert len(load_datalist(tmp_path).classes) == 3

    write_pair("a", IMAGE, (IMAGE % 5).astype(np.uint16))

    assert len(load_datalist(tmp_path).classes) == 5


def test_a_case_says_what_the_axes_of_its_files_are(tmp_path):
    stack = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb", planarconfig=2)
    tifffile.imwrite(tmp_path / "l.tif", stack % 2, photometric="rgb", planarconfig=2)
    case = {"image": "a.tif", "label": "l.tif", "read_as": "slices"}
    values = {"classes": ["background", "cell"], "cases": [case]}
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    datalist = load_datalist(path)

    (loaded,) = load_cases(datalist.cases, datalist)

    np.testing.assert_array_equal(loaded.image, stack)
    np.testing.assert_array_equal(loaded.label, stack % 2)
    write_datalist(datalist, path)
    assert load_datalist(path).cases[0].read_as == "slices"


@pytest.mark.parametrize(("key", "value"), [("read_as", "planes"), ("channel", -1)])
def test_a_word_for_the_axes_that_is_none_is_refused(tmp_path, key, value):
    (tmp_path / "a.tif").touch()
    case = {"image": "a.tif", key: value}
    values = {"classes": ["background", "cell"], "cases": [case]}

    with pytest.raises(ConfigError, match=f"case 0.*{key}.* is {value!r}"):
        parse_datalist(values, tmp_path / "datalist.json")


def test_the_old_word_for_object_ids_is_answered(two_cases, write_list):
    path = write_list(two_cases, classes=["background", "cell"], labels="instances")

    assert load_datalist(path).labels == "objects"


def test_images_and_labels_of_one_zarr_are_pairs(tmp_path):
    image = np.arange(60, dtype="u2").reshape(3, 4, 5)
    both = zarr.open_group(tmp_path / "a.zarr", mode="w")
    both.create_array("raw", data=image)
    both.create_array("label", data=image % 2)
    ome = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    for group, data in ((ome, image), (ome.create_group("labels/cell"), image % 3)):
        group.create_array("0", data=data)
        axes = [{"name": letter, "type": "space"} for letter in "zyx"]
        group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]

    cases = {case.name: case for case in pair_folder(tmp_path).cases}

    for name, values in (("a", 2), ("b", 3)):
        np.testing.assert_array_equal(read_volume(cases[name].image).read(), image)
        found = read_labels(cases[name].label).read()
        np.testing.assert_array_equal(found, image % values)

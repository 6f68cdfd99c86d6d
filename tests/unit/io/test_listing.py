"""What is in a folder: a table of folders, and one answer for every verb."""

import json

import h5py
import numpy as np
import pytest
import tifffile

from cellseg3d.core.errors import ConfigError, FormatError
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.listing import content_of, volumes_at
from cellseg3d.prediction.batch import tasks_of
from cellseg3d.scoring.pairs import pair_paths

SLICE, STACK = np.ones((5, 6), np.uint8), np.ones((3, 5, 6), np.uint8)
RECORD = {"segmentation": {"models": [{"name": "net", "classes": ["a", "b"]}]}}


def filled(folder, names, array=SLICE):
    """Write a TIFF of each name; a record of a prediction for .json."""
    folder.mkdir(exist_ok=True)
    for name in names:
        if name.endswith(".json"):
            (folder / name).write_text(json.dumps(RECORD))
        else:
            tifffile.imwrite(folder / name, array, photometric="minisblack")
    return folder


# Names, what each file holds, then images, labels, results, whether it is one volume.
TABLE = {
    "slices": (["z0.tif", "z1.tif", "z2.tif"], SLICE, 3, 0, 0, True),
    "signed slices": (["z-1.tif", "z0.tif", "z1.tif"], SLICE, 3, 0, 0, True),
    "slices of labels": (["z0_label.tif", "z1_label.tif"], SLICE, 0, 2, 0, True),
    "one image": (["z0.tif"], SLICE, 1, 0, 0, False),
    "stacks": (["c0.tif", "c1.tif"], STACK, 2, 0, 0, False),
    "images without numbers": (["a.tif", "b.tif"], SLICE, 2, 0, 0, False),
    "hashes": (["4f2a.tif", "9bc.tif", "d0e1f.tif"], SLICE, 3, 0, 0, False),
    "pairs": (["t1_image.tif", "t1_mask.tif"], SLICE, 1, 1, 0, False),
    "plain pairs": (["t1.tif", "t1_mask.tif", "t2.tif"], SLICE, 2, 1, 0, False),
    "labels alone": (["a_label.tif", "b_seg.tif"], STACK, 0, 2, 0, False),
    "a prediction": (
        ["a.tif", "a_labels.tif", "a_labels.json", "a_prob_x.tif"],
        STACK,
        1,
        0,
        2,
        False,
    ),
    "results": (
        ["a.tif", "a_objects.tif", "a_pred.tif"],
        STACK,
        1,
        0,
        2,
        False,
    ),
}


@pytest.mark.parametrize("kind", TABLE)
def test_a_folder_is_what_the_table_says(tmp_path, kind):
    names, array, images, labels, results, one = TABLE[kind]

    content = content_of(filled(tmp_path / "f", names, array))

    counts = (len(content.images), len(content.labels), len(content.results))
    assert counts == (images, labels, results)
    assert content.one_volume == one


@pytest.mark.parametrize("kind", TABLE)
def test_every_verb_takes_a_folder_for_the_same(tmp_path, kind):
    names, array, *_, one = TABLE[kind]
    folder = filled(tmp_path / "f", names, array)
    content = content_of(folder)

    tasks = tasks_of([str(folder)], tmp_path / "out")
    listed = volumes_at(folder)
    try:
        pairs = len(pair_paths(str(folder), str(folder)).pairs)
    except Exception:
        pairs = 0

    expected = [str(folder)] if one else [str(p) for p in content.to_segment]
    assert [task.source for task in tasks] == expected
    assert (listed == [str(folder)]) == one
    assert not one or pairs == 1


def test_the_users_word_decides(tmp_path):
    folder = filled(tmp_path / "f", ["z0.tif", "z1.tif"])
    strange = filled(tmp_path / "g", ["a.tif", "b.tif"])

    assert not content_of(folder, "images").one_volume
    assert content_of(strange, "slices").one_volume
    with pytest.raises(ConfigError, match="`folders` is 'some'"):
        content_of(folder, "some")


def test_a_stray_picture_among_slices_is_named(tmp_path):
    folder = filled(tmp_path / "f", ["z0.tif", "z1.tif", "z2.tif", "overview.tif"])

    with pytest.raises(FormatError, match=r"overview\.tif"):
        content_of(folder)


def test_no_results_of_a_prediction_are_predicted_again(tmp_path):
    names = ["c0_image.tif", "c0_label.tif", "c0_image_labels.tif"]
    folder = filled(tmp_path / "f", [*names, "c0_image_labels.json"], STACK)

    tasks = tasks_of([str(folder)], tmp_path / "out")
    datalist = load_datalist(folder)

    assert [task.source for task in tasks] == [str(folder / "c0_image.tif")]
    assert [case.label for case in datalist.cases] == [str(folder / "c0_label.tif")]


@pytest.mark.parametrize(
    "names",
    [
        ("c0_image.tif", "c0_image_labels.tif"),
        ("c0.tif", "c0_mask.tif"),
        ("c0_0000.tif", "c0_seg.tif"),
        ("c0-raw.tif", "c0 labels.tif"),
    ],
)
def test_an_image_and_its_label_pair_by_their_stem(tmp_path, names):
    folder = filled(tmp_path / "f", names, STACK)

    [case] = load_datalist(folder).cases

    assert (case.name, case.image, case.label) == (
        "c0",
        *(str(folder / name) for name in names),
    )


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".hdf"])
def test_hdf5_of_any_suffix_pairs_inside(tmp_path, suffix):
    with h5py.File(tmp_path / f"a{suffix}", "w") as file:
        file["t0/raw"] = STACK
        file["t0/labels"] = STACK

    [case] = load_datalist(tmp_path).cases

    assert case.image.endswith(f"a{suffix}::t0/raw")
    assert case.label.endswith(f"a{suffix}::t0/labels")


def test_what_was_found_is_said_where_nothing_pairs(tmp_path):
    filled(tmp_path / "f", ["a.tif", "b.tif"], STACK)
    (tmp_path / "f" / "c.czi").write_bytes(b"x")

    with pytest.raises(
        Exception, match=r"2 volumes \(a\.tif, b\.tif\) and 1 other file"
    ) as it:
        load_datalist(tmp_path / "f")

    assert "c.czi" in str(it.value)

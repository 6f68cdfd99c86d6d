"""What the doctor asks about the meaning and the place of labels."""

import json

import numpy as np
import pytest
import tifffile

from cellseg3d.doctor.examine import diagnose

SHAPE = (12, 40, 40)
RNG = np.random.default_rng(0)
BLACK = {"photometric": "minisblack"}


def balls(count, seed, radius=5.0):
    """Return an image and ids of balls that do not touch."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid([6], [8, 20, 32], [8, 20, 32]), -1).reshape(-1, 3)
    ids = np.zeros(SHAPE, np.uint8)
    grid = np.indices(SHAPE).transpose(1, 2, 3, 0)
    for number, place in enumerate(rng.permutation(places)[:count], start=1):
        ids[((grid - place) ** 2).sum(-1) < radius**2] = number
    image = np.where(ids > 0, 150, 50) + rng.normal(0, 5, SHAPE)
    return image.astype(np.uint8), ids


def folder_of(tmp_path, label_of, *, names=None, count=6):
    """Write three pairs; `label_of` makes a label of ids and the number of the pair."""
    cases = []
    for number in range(3):
        image, ids = balls(count, number)
        label = label_of(ids, number)
        tifffile.imwrite(tmp_path / f"c{number}_image.tif", image, **BLACK)
        tifffile.imwrite(tmp_path / f"c{number}_label.tif", label, **BLACK)
        cases.append({"image": f"c{number}_image.tif", "label": f"c{number}_label.tif"})
    if names is not None:
        text = json.dumps({"classes": names, "cases": cases})
        (tmp_path / "datalist.json").write_text(text, encoding="utf-8")
    return tmp_path


def kinds(tmp_path):
    found = diagnose(tmp_path)
    return {each.kind: f"{each.cause}; {each.way_out}" for each in found}


def plain(ids, number):
    return (ids > 0).astype(np.uint8)


def test_nothing_is_asked_about_good_labels(tmp_path):
    assert set(kinds(folder_of(tmp_path, plain))) == {"spacing"}


@pytest.mark.parametrize(
    ("label_of", "mapping"),
    [
        (lambda ids, _: np.where(ids > 0, 2, 1), '"1": 0, "2": 1'),
        (lambda ids, _: np.where(ids > 0, 255, 254), '"254": 0, "255": 1'),
        (lambda ids, _: np.where(ids > 1, 3, np.where(ids, 2, 1)), '"2": 1, "3": 2'),
    ],
)
def test_labels_without_background_are_asked_about(tmp_path, label_of, mapping):
    found = kinds(folder_of(tmp_path, lambda *to: label_of(*to).astype(np.uint8)))

    assert mapping in found["no background"]


def test_labels_without_background_after_the_way_out_are_right(tmp_path):
    place = folder_of(
        tmp_path,
        lambda ids, _: np.where(ids > 0, 2, 1).astype(np.uint8),
        names=["background", "cell"],
    )
    datalist = json.loads((place / "datalist.json").read_text(encoding="utf-8"))
    datalist["label_map"] = {"1": 0, "2": 1}
    (place / "datalist.json").write_text(json.dumps(datalist), encoding="utf-8")

    assert set(kinds(place)) == {"spacing"}


def test_ids_that_are_read_as_classes_are_asked_about(tmp_path):
    found = kinds(folder_of(tmp_path, lambda ids, _: ids))

    assert "up to 6 label values is one piece" in found["perhaps object ids"]
    assert '"labels": "objects"' in found["perhaps object ids"]


def nested(ids, number):
    """A cell with a nucleus and a nucleolus in it, each in one piece."""
    grid = np.indices(SHAPE).transpose(1, 2, 3, 0)
    away = np.sqrt((((grid - (6, 20, 20)) * (2, 1, 1)) ** 2).sum(-1))
    label = (away < 15 + number).astype(np.uint8)
    label[away < 9], label[away < 4] = 2, 3
    return label


@pytest.mark.parametrize(
    "label_of", [nested, lambda ids, _: (ids + 1) // 2, lambda ids, _: ids.clip(0, 2)]
)
def test_classes_are_not_taken_for_ids(tmp_path, label_of):
    assert "perhaps object ids" not in kinds(folder_of(tmp_path, label_of))


def test_classes_that_the_user_names_are_not_taken_for_ids(tmp_path):
    names = ["background", "a", "b", "c", "d", "e", "f"]

    found = kinds(folder_of(tmp_path, lambda ids, _: ids, names=names))

    assert "perhaps object ids" not in found


def test_inverted_masks_are_asked_about(tmp_path):
    found = kinds(folder_of(tmp_path, lambda ids, _: (ids == 0).astype(np.uint8)))

    assert '"label_map": {"0": 1, "1": 0}' in found["inverted label"]


def test_cells_that_fill_the_volume_are_not_taken_for_an_inverted_mask(tmp_path):
    def tissue(ids, number):
        y, x = np.indices(SHAPE[1:])
        return np.broadcast_to((y % 10 > 1) & (x % 10 > 1), SHAPE).astype(np.uint8)

    assert "inverted label" not in kinds(folder_of(tmp_path, tissue))


def test_a_class_that_only_the_validation_has_is_named(tmp_path):
    def rare(ids, number):
        return plain(ids, number) + (number == 0) * (ids == 3).astype(np.uint8)

    found = kinds(folder_of(tmp_path, rare, names=["background", "cell", "rare"]))

    assert "class 2 (rare) occurs only in cases" in found["class not trained"]


def test_classes_that_no_label_has_are_told_in_one_line(tmp_path):
    names = ["background", "cell", "a", "b"]

    found = kinds(folder_of(tmp_path, plain, names=names))

    assert "classes 2 (a), 3 (b) occur in no label" in found["class never seen"]


@pytest.mark.parametrize(("axis", "shift"), [(2, 4), (1, -5)])
def test_a_shifted_label_is_found(tmp_path, axis, shift):
    found = kinds(
        folder_of(tmp_path, lambda *to: np.roll(plain(*to), shift, axis), count=5)
    )

    assert f"{-shift} voxels along {'zyx'[axis]} away" in found["shifted label"]


def test_a_label_that_is_its_own_image_is_found(tmp_path):
    image = plain(balls(5, 0)[1], 0)
    tifffile.imwrite(tmp_path / "a_image.tif", image, **BLACK)
    tifffile.imwrite(tmp_path / "a_label.tif", image, **BLACK)

    assert "the same voxels" in kinds(tmp_path)["label as image"]


@pytest.mark.parametrize(("axis", "word"), [(0, "slice"), (1, "row"), (2, "column")])
def test_doubled_planes_are_found_along_every_axis(tmp_path, axis, word):
    image, ids = balls(5, 0)
    planes = np.r_[0:6, 5:11] if axis == 0 else np.r_[0:20, 19:39]
    tifffile.imwrite(tmp_path / "a_image.tif", image.take(planes, axis), **BLACK)
    tifffile.imwrite(tmp_path / "a_label.tif", plain(ids, 0), **BLACK)

    place = 6 if axis == 0 else 20
    said = f"1 {word} is the same as the one before ({place})"
    assert said in kinds(tmp_path)[f"doubled {word}"]

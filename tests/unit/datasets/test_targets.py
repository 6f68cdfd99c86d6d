"""Borders and links are made of ids as they lie, and decode to them again."""

import numpy as np
import pytest

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.targets import (
    LINKS,
    LONG_LINKS,
    REACH,
    LabelTarget,
    border_core_target,
    decoder_for,
    link_classes,
    link_probs,
    object_ids,
)
from cellseg3d.datasets.volumes import load_fold
from cellseg3d.objects.label import label_objects
from cellseg3d.samples.loaders import SampleDataset
from cellseg3d.samples.transforms import RandSpatiald, RandSymmetryd

PATCH = {"spatial_dims": 3, "patch_shape": [8, 8, 8]}


def touching_cubes():
    """Two rows of cubes of 4 x 4 x 4 voxels that share faces; ids 1, 2, ... 255 ..."""
    ids = np.zeros((10, 10, 18), np.uint16)
    number = 253
    for z in (1, 5):
        for y in (1, 5):
            for x in (1, 5, 9, 13):
                ids[z : z + 4, y : y + 4, x : x + 4] = number
                number += 1
    return ids


def test_links_name_the_lower_neighbours_of_the_same_object():
    ids = np.array([[1, 1, 2], [1, 3, 2], [0, 3, 3]])

    found = link_classes(ids)

    # Bit 2 is along y, bit 1 along x; the first row and column have unseen neighbours.
    np.testing.assert_array_equal(found, [[255, 255, 255], [255, 0, 2], [255, 2, 1]])


def test_nothing_is_known_of_links_to_what_was_not_annotated():
    ids = np.ones((3, 4, 4), np.uint8)
    ids[1, 1, 1] = 255

    found = link_classes(ids)

    assert found[1, 1, 1] == found[2, 1, 1] == found[1, 2, 1] == found[1, 1, 2] == 255
    assert found[2, 2, 2] == LINKS.index("link_zyx")
    assert (found[0] == 255).all()


def test_an_image_of_one_slice_has_links_in_its_plane():
    found = link_classes(np.ones((1, 3, 3), np.uint8))

    assert found[0, 1, 1] == LINKS.index("link_yx")


def test_probabilities_of_links_are_those_of_the_classes_that_hold_them():
    probs = np.zeros((8, 1, 1, 1), np.float32)
    probs[[0, 1, 4, 7], 0, 0, 0] = [0.1, 0.2, 0.3, 0.4]

    found = link_probs(probs)[:, 0, 0, 0]

    np.testing.assert_allclose(found, [0.7, 0.4, 0.6], rtol=1e-6)


def test_ids_are_counted_anew_without_255():
    values = np.array([0, 7, 9_000_000, 7, 3])
    many = np.arange(300)

    np.testing.assert_array_equal(object_ids(values, "x"), [0, 2, 3, 2, 1])
    counted = object_ids(many, "x")
    assert counted.dtype == np.uint16
    assert 255 not in counted
    assert len(np.unique(counted)) == 300
    with pytest.raises(LabelError, match="least object id is -1"):
        object_ids(np.array([-1, 2]), "x")


@pytest.mark.parametrize("kind", ["border-core", "affinity"])
def test_a_target_decodes_to_the_objects_it_was_made_of(kind):
    """Also where voxels are longest along z, where a thin border was none."""
    ids = object_ids(touching_cubes(), "cubes")
    spacing = Spacing(0.3, 0.1, 0.1)
    label = LabelTarget(kind).label_of(ids, spacing)
    count = int(label[label < 255].max()) + 1
    probs = np.stack([label == value for value in range(count)]).astype(np.float32)
    if kind == "affinity":
        probs[7][label == 255] = 1  # What a net must guess: here, that all is one.
        probs[:, ids == 0] = 0

    found = label_objects(probs, spacing, decoder_for(LabelTarget(kind).classes))

    assert found.count == 16
    assert len(np.unique(found.volume.array[ids == ids[2, 2, 2]])) == 1


def test_a_border_is_as_thick_as_told_and_a_thin_object_keeps_a_core():
    ids = np.zeros((1, 9, 9), np.uint8)
    ids[0, :, :7] = 1
    ids[0, 4, 8] = 2

    thin = border_core_target(ids, 0.0)
    thick = border_core_target(ids, 2.0)

    np.testing.assert_array_equal(thin[0, 4], [1, 1, 1, 1, 1, 1, 2, 0, 1])
    np.testing.assert_array_equal(thick[0, 4], [1, 1, 1, 1, 1, 2, 2, 0, 1])


@pytest.fixture
def cubes(write_pair, write_list):
    ids = touching_cubes()
    for stem in ("a", "b"):
        write_pair(stem, ids.astype(np.float32), ids)
    cases = [
        {"name": s, "image": f"{s}_image.tif", "label": f"{s}_label.tif"} for s in "ab"
    ]
    return write_list(cases, labels="objects", spacing_um=[0.3, 0.1, 0.1])


@pytest.mark.parametrize("kind", ["affinity", "long-affinity"])
def test_links_are_made_after_augmentation(cubes, kind):
    """A flip turns lower neighbours into upper ones: links must not move with it."""
    case = load_fold(cubes, validation="none", target={"kind": kind}).training[0]
    keys = ["image", "label"]
    moved = [RandSymmetryd(keys), RandSpatiald(keys, prob=1.0, plane="yx")]
    for transform in (*moved, None):
        data = SampleDataset([case], PATCH, 4, transform, foreground=1.0)
        for item in data:
            ids = np.rint(scaled_back(case, item["image"][0].numpy()))
            label = item["label"][0].numpy()
            if isinstance(transform, RandSpatiald):
                assert set(np.unique(label)) <= {*range(len(case.target.classes)), 255}
                continue
            # Image voxels are the ids, so the links of the image are the label.
            np.testing.assert_array_equal(label, case.target.label_of(ids, None))


def scaled_back(case, image):
    scaled = case.scale.apply(case.image, case.offset, case.factor)
    values, first = np.unique(scaled, return_index=True)
    ids = case.objects.ravel()[first]
    return ids[np.abs(values[:, None, None, None] - image).argmin(0)]


def test_borders_travel_as_classes(cubes):
    fold = load_fold(
        cubes, validation="none", target={"kind": "border-core", "border_um": 0.1}
    )

    assert fold.datalist.classes == ("background", "core", "border")
    assert set(np.unique(fold.training[0].label)) == {0, 1, 2}
    assert fold.training[0].objects is None


def test_a_cache_keeps_ids_and_tells_targets_apart(cubes, tmp_path):
    folds = [
        load_fold(
            cubes,
            validation="none",
            target={"kind": kind},
            cache_dir=tmp_path / "cache",
        )
        for kind in ("affinity", "border-core", "affinity")
    ]

    links, border, again = (fold.training[0] for fold in folds)
    assert border.objects is None
    np.testing.assert_array_equal(links.objects, again.objects)
    np.testing.assert_array_equal(links.label, again.label)
    assert isinstance(again.objects, np.memmap)


def test_a_target_of_objects_needs_ids(cubes, write_list):
    values = {"image": "a_image.tif", "label": "a_label.tif"}
    of_classes = load_datalist(write_list([values]))
    partly = load_datalist(
        write_list([values | {"annotated": ["cell"]}], labels="objects")
    )

    with pytest.raises(ConfigError, match='"labels": "objects"'):
        of_classes.aimed_at({"kind": "affinity"})
    with pytest.raises(ConfigError, match="annotated"):
        partly.aimed_at({"kind": "border-core"})
    with pytest.raises(ConfigError, match="expected one of classes"):
        of_classes.aimed_at({"kind": "borders"})
    with pytest.raises(ConfigError, match="unknown key 'kinds'"):
        of_classes.aimed_at({"kinds": "affinity"})


def test_slices_of_a_volume_have_no_links_across(cubes):
    fold = load_fold(cubes, validation="none", target={"kind": "affinity"})
    spec = {"spatial_dims": 2, "patch_shape": [8, 8]}

    with pytest.raises(ConfigError, match="3D bundle"):
        SampleDataset(fold.training, spec, 4)


def brute_long_links(ids):
    """Return the digits of every voxel one by one; None where one is not known."""
    digits = np.empty(ids.shape, object)
    for place in np.ndindex(ids.shape):
        digits[place] = []
        for axis in range(3):
            lower = [list(place) for _ in range(2)]
            lower[0][axis] -= 1
            lower[1][axis] -= REACH
            known = [each[axis] >= 0 and ids[tuple(each)] != 255 for each in lower]
            mine = ids[place]
            if mine == 255 or not known[0]:
                digits[place] = None
                break
            if mine == 0 or ids[tuple(lower[0])] != mine:
                digits[place].append(0)
            elif not known[1]:
                digits[place] = None
                break
            else:
                digits[place].append(1 + int(ids[tuple(lower[1])] == mine))
    return digits


def test_long_links_say_who_shares_an_object_next_to_a_voxel_and_farther_below():
    random = np.random.default_rng(0)
    ids = np.kron(random.integers(0, 4, (3, 3, 3)), np.ones((4, 3, 4), int))
    ids[2, 4, 5] = ids[9, 7, 3] = 255

    found = link_classes(ids, far=True)

    assert set(range(1, 27)) & set(found.ravel().tolist())
    for place, digits in np.ndenumerate(brute_long_links(ids)):
        expected = 255 if digits is None else int("".join(map(str, digits)), 3)
        assert found[place] == expected, (place, digits)


def test_the_probabilities_of_long_links_are_sums_over_the_other_axes():
    classes = np.full((27, 1, 1, 2), 0.0)
    classes[LONG_LINKS.index("links_201"), ..., 0] = 0.75
    classes[LONG_LINKS.index("links_110"), ..., 0] = 0.25
    classes[LONG_LINKS.index("links_000"), ..., 1] = 1.0

    near = link_probs(classes)

    np.testing.assert_allclose(near[:, 0, 0, 0], [1.0, 0.25, 0.75])
    assert not near[..., 1].any()


def test_a_network_of_long_links_is_decoded_as_one_of_links():
    assert decoder_for(LabelTarget("long-affinity").classes) == "affinity"
    assert LabelTarget("long-affinity").has_direction
    assert not LabelTarget("border-core").has_direction

import h5py
import numpy as np
import pytest
import tifffile

from cellseg3d.core.errors import ConfigError, LabelError, SpacingError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.volumes import (
    check_pair,
    load_cases,
    load_fold,
    read_case_label,
)

RNG = np.random.default_rng(5)
IMAGE = RNG.integers(0, 255, (5, 6, 7)).astype(np.uint8)
LABEL = (IMAGE > 127).astype(np.uint8)
ENTRY = {"image": "a_image.tif", "label": "a_label.tif", "name": "a"}


def entry(stem):
    return {"image": f"{stem}_image.tif", "label": f"{stem}_label.tif", "name": stem}


def test_a_case_keeps_its_voxels_and_their_type(write_pair, write_list):
    write_pair("a", IMAGE, LABEL)
    data = load_datalist(write_list([{**ENTRY, "spacing_um": [2, 1, 1]}]))

    (case,) = load_cases(data.cases, data, {"mode": "range", "lower": 0, "upper": 200})

    np.testing.assert_array_equal(case.image, IMAGE)
    np.testing.assert_array_equal(case.label, LABEL)
    assert (case.image.dtype, case.label.dtype) == (np.uint8, np.uint8)
    assert (case.offset, case.factor) == (100, 0.01)
    assert case.spacing == Spacing(2, 1, 1)
    assert case.warnings == ()


def test_shapes_that_differ_are_refused_with_the_likely_cause(write_pair, write_list):
    write_pair("a", IMAGE, LABEL.transpose(2, 1, 0))
    data = load_datalist(write_list([ENTRY]))

    with pytest.raises(
        LabelError, match=r"\(7, 6, 5\).*\(5, 6, 7\); transpose the label.* xyz"
    ):
        load_cases(data.cases, data)

    write_pair("a", IMAGE, LABEL[:3])
    with pytest.raises(LabelError, match="or crop both equally"):
        load_cases(data.cases, data)


def test_spacings_that_differ_are_refused():
    one = Volume(IMAGE, Spacing(1, 1, 1), provenance={"path": "i.mrc"})
    two = Volume(LABEL, Spacing(1, 1, 2), provenance={"path": "l.mrc"})
    case = Case("a", "i.mrc", "l.mrc", "a")

    with pytest.raises(SpacingError, match=r"^l\.mrc: spacing is 1 x 1 x 2 um"):
        check_pair(one, two, case)
    check_pair(one, Volume(LABEL), case)
    check_pair(one, two, Case("a", "i", "l", "a", spacing=Spacing(1, 1, 1)))


def test_a_label_that_lies_elsewhere_is_refused():
    affine = np.diag([0.1, 0.1, 0.1, 1])
    flipped = affine.copy()
    flipped[0] = [-0.1, 0, 0, 0.6]
    case = Case("a", "i", "l", "a")

    check_pair(Volume(IMAGE, affine_mm=affine), Volume(LABEL, affine_mm=affine), case)
    with pytest.raises(SpacingError, match="affine places it elsewhere"):
        check_pair(
            Volume(IMAGE, affine_mm=affine), Volume(LABEL, affine_mm=flipped), case
        )


def test_a_folder_of_masks_is_one_volume_of_ids(tmp_path):
    for number in range(3):
        mask = np.zeros((4, 6), np.uint8)
        mask[number, :4] = 255
        tifffile.imwrite(tmp_path / f"m{number}.tif", mask)
    data = Datalist("d", ("background", "object"), None, (), labels="masks")

    ids = read_case_label(Case("a", "i", str(tmp_path), "a"), data).read()

    np.testing.assert_array_equal(ids[0, :, 0], [1, 2, 3, 0])
    assert ids.shape == (1, 4, 6)


def test_hdf5_datasets_are_cases(tmp_path, write_list):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["raw"], file["seg"] = IMAGE, LABEL
    path = write_list([{"image": "v.h5::raw", "label": "v.h5::seg"}])

    (case,) = load_cases(load_datalist(path).cases, load_datalist(path))

    np.testing.assert_array_equal(case.label, LABEL)


def test_a_fold_is_loaded_with_its_warnings(write_pair, write_list):
    write_pair("a", IMAGE, LABEL)
    write_pair("b", np.full_like(IMAGE, 3), 0 * LABEL)
    path = write_list([entry("a"), entry("b")])

    found = load_fold(path, "a")

    assert [case.name for case in found.training] == ["b"]
    assert [case.name for case in found.validation] == ["a"]
    assert [note.split(": ")[1] for note in found.warnings] == [
        "every voxel is 3",
        "holds background only",
    ]
    assert sorted(found.hashes) == ["a", "b"]


def test_one_volume_under_two_names_is_refused_across_a_fold(write_pair, write_list):
    write_pair("a", IMAGE, LABEL)
    write_pair("b", IMAGE, LABEL)
    path = write_list([entry("a"), entry("b")])

    with pytest.raises(ConfigError, match="has the same content as"):
        load_fold(path, 0)


def test_partial_annotation_arrives_by_class(write_pair, write_list):
    write_pair("a", IMAGE, LABEL)
    entries = [{**ENTRY, "annotated": ["mito"]}]
    data = load_datalist(write_list(entries, classes=["background", "mito", "er"]))

    (case,) = load_cases(data.cases, data)

    assert case.annotated == (False, True, False)


def test_resampling_keeps_the_field_of_view(write_pair, write_list):
    z, _, _ = np.ogrid[:8, :6, :6]
    image = (z * 10 + np.zeros((8, 6, 6))).astype(np.uint8)
    write_pair("a", image, (image >= 40).astype(np.uint8))
    data = load_datalist(write_list([{**ENTRY, "spacing_um": [1, 2, 2]}]))

    (case,) = load_cases(data.cases, data, spacing_um=[2, 1, 2])

    assert case.image.shape == case.label.shape == (4, 12, 6)
    assert case.image.dtype == np.uint8
    assert case.spacing == Spacing(2, 1, 2)
    np.testing.assert_array_equal(case.label[:, 3, 3], [0, 0, 1, 1])
    np.testing.assert_allclose(case.image[1:3, 3, 3], [25, 45], atol=1)
    data = load_datalist(write_list([ENTRY]))
    with pytest.raises(SpacingError, match="spacing is unknown"):
        load_cases(data.cases, data, spacing_um=[1, 1, 1])


def test_a_cache_is_mapped_and_forgotten_when_its_source_changes(
    write_pair, write_list, tmp_path
):
    image, _ = write_pair("a", IMAGE, LABEL)
    data = load_datalist(write_list([ENTRY]))
    folder = tmp_path / "cache"

    first = load_cases(data.cases, data, cache_dir=folder)[0]
    again = load_cases(data.cases, data, cache_dir=folder)[0]

    assert isinstance(first.image, np.memmap)
    np.testing.assert_array_equal(again.image, IMAGE)
    np.testing.assert_array_equal(again.label, LABEL)
    assert (again.content, again.offset) == (first.content, first.offset)
    assert len(list(folder.iterdir())) == 3

    tifffile.imwrite(image, 255 - IMAGE)
    changed = load_cases(data.cases, data, cache_dir=folder)[0]
    np.testing.assert_array_equal(changed.image, 255 - IMAGE)


def test_a_case_without_a_label_loads_its_image(write_pair, write_list):
    write_pair("a", IMAGE, None)
    data = load_datalist(write_list([{"image": "a_image.tif"}]))

    (case,) = load_cases(data.cases, data)

    assert case.label is None
    np.testing.assert_array_equal(case.image, IMAGE)

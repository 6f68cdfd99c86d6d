import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg3d.core.errors import LabelError
from cellseg3d.datasets.cases import Datalist
from cellseg3d.datasets.labels import (
    class_labels,
    map_labels,
    value_counts,
    whole_numbers,
)

DTYPES = [np.uint8, np.uint16, np.int16, np.uint32, np.int64]


def datalist(kind="classes", label_map=None, classes=3):
    names = tuple(f"c{i}" for i in range(classes))
    return Datalist("d", names, label_map, (), labels=kind)


@given(st.sampled_from(DTYPES), st.lists(st.sampled_from([0, 2, 5, 9, 255])))
def test_a_label_map_is_applied_voxel_by_voxel(dtype, values):
    mapping = {2: 1, 5: 2, 9: 255}
    array = np.array([*values, 2], dtype)

    mapped = map_labels(array, mapping, 3, "l")

    full = {0: 0, 255: 255, **mapping}
    assert mapped.dtype == np.uint8
    assert mapped.tolist() == [full[int(v)] for v in array]


def test_values_without_a_map_are_class_indices():
    array = np.array([0, 1, 2, 255], np.int32)

    assert map_labels(array, None, 3, "l").tolist() == [0, 1, 2, 255]


def test_negative_values_can_be_mapped_to_not_annotated():
    array = np.array([-1, 0, 1], np.int8)

    assert map_labels(array, {-1: 255, 1: 1}, 2, "l").tolist() == [255, 0, 1]


def test_unexpected_values_are_listed_with_counts_and_file():
    array = np.array([0, 1, 7, 7, 7, 300], np.uint16)

    with pytest.raises(LabelError) as caught:
        map_labels(array, None, 2, "x_label.tif")

    message = str(caught.value)
    assert message.startswith(
        "x_label.tif: unexpected label values 7 (3 voxels), 300 (1"
    )
    assert "expected 0, 1, 255" in message
    assert "label_map" in message


def test_a_value_absent_from_a_given_map_is_refused():
    with pytest.raises(LabelError, match=r"unexpected label values 1 \(2 voxels\)"):
        map_labels(np.array([0, 1, 1, 2], np.uint8), {2: 1}, 2, "l")


def test_only_0_and_255_is_refused_with_the_way_out():
    array = np.array([0, 255, 255], np.uint8)

    with pytest.raises(LabelError, match=r'"label_map": \{"255": 1\}'):
        map_labels(array, None, 2, "l.png")
    assert map_labels(array, {255: 1}, 2, "l").tolist() == [0, 1, 1]
    assert map_labels(array, {255: 255}, 2, "l").tolist() == [0, 255, 255]


def test_all_255_is_refused_too():
    with pytest.raises(LabelError, match="holds only 0 and 255"):
        map_labels(np.full(3, 255, np.uint8), None, 2, "l")


def test_fractional_labels_are_refused_with_their_place():
    array = np.zeros((2, 2, 2), np.float32)
    assert whole_numbers(array + 1, "l").tolist() == np.ones((2, 2, 2)).tolist()
    array[1, 0, 1] = 0.5

    with pytest.raises(LabelError, match=r"1 label values.*0\.5 at zyx \(1, 0, 1\)"):
        whole_numbers(array, "l.nii")


def test_objects_become_foreground_whatever_their_id():
    ids = np.array([[[0, 1, 255, 70000]]], np.uint32)

    assert class_labels(ids, datalist("objects"), "l").tolist() == [[[0, 1, 1, 1]]]
    with pytest.raises(LabelError, match="the least object id is -1"):
        class_labels(np.array([[[-1]]]), datalist("objects"), "l")


def test_true_and_false_are_classes():
    mask = np.array([[[True, False]]])

    assert class_labels(mask, datalist(), "l").tolist() == [[[1, 0]]]


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 100), min_size=1))
def test_values_are_counted(dtype, values):
    found, counts = value_counts(np.array(values, dtype))

    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == {
        value: values.count(value) for value in sorted(set(values))
    }

"""Ids up to 2^64 - 1, as CREMI's, keep their numbers and their neighbours."""

import h5py
import numpy as np
import pytest

from cellseg3d.core.errors import LabelError
from cellseg3d.core.ignore import NO_OBJECT, no_object
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.check import check_volume
from cellseg3d.metrics.contingency import count_slices, together, total
from cellseg3d.metrics.morphometry import measure_objects
from cellseg3d.metrics.object_scores import match_objects, object_scores
from cellseg3d.metrics.parents import boundary_distance, most_common
from cellseg3d.scoring.one_volume import ScoreOptions, score_volume

LARGE = (7, 2**63 - 1, 2**63 + 5, 2**63 + 6, 2**64 - 1)


def volume(ids=LARGE):
    """One cube of 2 x 3 x 3 voxels of each id, each in slices of its own."""
    array = np.zeros((4 * len(ids), 9, 9), np.uint64)
    for number, value in enumerate(ids):
        array[4 * number + 1 : 4 * number + 3, 3:6, 3:6] = value
    return array


def test_every_object_is_measured_under_its_own_id(monkeypatch):
    monkeypatch.setattr("cellseg3d.metrics.object_sums.SLAB_VOXELS", 9 * 9 * 2)

    table = measure_objects(volume(), Spacing(1, 1, 1))

    assert table["id"].tolist() == list(LARGE)
    assert table["voxels"].tolist() == [18] * 5


def test_pairs_are_counted_exactly():
    truth, prediction = volume(), volume(LARGE[::-1])

    table = total(count_slices(prediction, truth))

    pairs = set(zip(table.predicted.tolist(), table.true.tolist(), strict=True))
    assert pairs == {(0, 0), *zip(LARGE[::-1], LARGE, strict=True)}
    assert object_scores(match_objects(prediction, truth))["object_f1"] == 1


def test_large_ids_find_their_parents():
    parents = np.where(volume() > 0, np.uint64(2**63 + 9), np.uint64(0))
    ids = np.array(LARGE, np.uint64)

    values, shares = most_common(volume(), parents, ids)
    distance = boundary_distance(volume(), parents, ids, Spacing(1, 1, 1))

    assert values.tolist() == [2**63 + 9] * 5
    assert shares.tolist() == [1] * 5
    assert distance.tolist() == [0] * 5


def test_small_ids_stay_signed():
    table = total(count_slices(volume((1, 2)), volume((1, 2))))

    assert table.predicted.dtype == np.int64


def test_negative_beside_large_is_refused():
    with pytest.raises(LabelError, match="renumber"):
        together([np.array([-1]), np.array([2**63 + 1], np.uint64)])


def test_the_id_of_no_object_is_told_and_stays_an_object():
    truth = Volume(volume())
    prediction = Volume(np.where(volume() == NO_OBJECT, 0, volume()))

    scored = score_volume(prediction, truth, ScoreOptions(ids=True))
    mapped = score_volume(
        prediction, truth, ScoreOptions(ids=True, truth_map={NO_OBJECT: 0})
    )

    [note] = scored.notes
    assert "18446744073709551615 (2^64 - 1), which CREMI writes" in note
    assert scored.objects["foreground"]["object_recall"] == 0.8
    assert mapped.notes == ()
    assert mapped.objects["foreground"]["object_recall"] == 1


@pytest.mark.parametrize("largest", [0, 255, 2**63 - 1, 2**64 - 2, float(2**64 - 1)])
def test_no_other_value_is_taken_for_it(largest):
    assert no_object(largest) == ""


def test_the_check_of_a_file_tells_it(tmp_path):
    path = tmp_path / "cremi.h5"
    with h5py.File(path, "w") as file:
        file["volumes/labels/neuron_ids"] = volume()

    [said] = check_volume(path).warnings

    assert said == no_object(NO_OBJECT)

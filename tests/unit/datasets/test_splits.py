import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.splits import (
    check_duplicates,
    content_hash,
    grouped_folds,
    leave_one_group_out,
    training_fold,
)


def datalist(groups, splits=None, *, shared=False):
    splits = splits or [None] * len(groups)
    cases = tuple(
        Case(f"c{i}", f"c{i}.tif", f"l{i}.tif", group, split)
        for i, (group, split) in enumerate(zip(groups, splits, strict=True))
    )
    return Datalist(
        "d", ("background", "cell"), None, cases, allow_shared_groups=shared
    )


def names(cases):
    return [case.name for case in cases]


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=20), st.integers(2, 5))
def test_folds_part_the_cases_and_never_a_group(groups, k):
    data = datalist(groups)
    count = len(set(groups))
    if count < k:
        return

    every = [*leave_one_group_out(data)], [*grouped_folds(data, k, seed=3)]

    assert [len(folds) for folds in every] == [count, k]
    for folds in every:
        held = sorted(name for fold in folds for name in names(fold.validation))
        assert held == sorted(names(data.cases))
        for fold in folds:
            training = {case.group for case in fold.training}
            assert not training & {case.group for case in fold.validation}
            assert len(fold.training) + len(fold.validation) == len(groups)


def test_grouped_folds_are_even_and_follow_their_seed():
    data = datalist([str(i // 2) for i in range(20)])

    folds = grouped_folds(data, 5, seed=1)

    assert [len(fold.validation) for fold in folds] == [4] * 5
    assert grouped_folds(data, 5, seed=1) == folds
    assert grouped_folds(data, 5, seed=2) != folds


def test_what_the_datalist_prescribes_is_kept():
    data = datalist("abcd", ["training", "validation", "test", None])

    fold = training_fold(data, 0)

    assert names(fold.training) == ["c0", "c3"]
    assert names(fold.validation) == ["c1"]
    assert names(fold.test) == ["c2"]
    assert fold.warnings == ()


def test_a_test_case_is_in_no_fold():
    data = datalist("abc", [None, None, "test"])

    fold = training_fold(data, "b")

    assert names(fold.training) == ["c0"]
    assert names(fold.validation) == ["c1"]


def test_named_cases_validate_when_asked():
    fold = training_fold(datalist("abc"), validation=["c2", "a"])

    assert names(fold.validation) == ["c0", "c2"]
    with pytest.raises(ConfigError, match="did you mean 'c1'"):
        training_fold(datalist("ab"), validation=["cc1"])


def test_one_specimen_leaves_no_validation_and_says_so():
    fold = training_fold(datalist("aaa"), 0)

    assert fold.validation == ()
    assert len(fold.training) == 3
    assert "all labelled cases belong to one specimen" in fold.warnings[0]


def test_a_shared_specimen_is_refused_unless_allowed_and_then_said():
    splits = ["training", "validation"]
    with pytest.raises(ConfigError, match=r"'a' is in training and in validation"):
        training_fold(datalist("aa", splits))
    with pytest.raises(ConfigError, match=r"'a' is in training and in test"):
        training_fold(datalist("aa", ["training", "test"]))

    fold = training_fold(datalist("aa", splits, shared=True))

    assert "do not measure how well it does on a new specimen" in fold.warnings[0]


def test_shared_specimens_are_split_by_case_when_allowed():
    folds = leave_one_group_out(datalist("aaa", shared=True))

    assert [names(fold.validation) for fold in folds] == [["c0"], ["c1"], ["c2"]]
    assert all("specimen 'a' is in training" in fold.warnings[0] for fold in folds)


@pytest.mark.parametrize("fold", [3, -1, "z"])
def test_a_fold_that_is_not_there_is_refused(fold):
    with pytest.raises(ConfigError, match="no fold"):
        training_fold(datalist("abc"), fold)


@pytest.mark.parametrize("k", [1, 4])
def test_impossible_numbers_of_folds_are_refused(k):
    with pytest.raises(ConfigError, match="expected 2 to 3 folds"):
        grouped_folds(datalist("abc"), k)


def test_cases_without_labels_neither_train_nor_validate():
    data = datalist("ab")
    extra = Case("u", "u.tif", None, "u")
    data = Datalist("d", data.classes, None, (*data.cases, extra))

    assert names(training_fold(data, 0).training) == ["c1"]
    with pytest.raises(ConfigError, match="no labelled case is left"):
        training_fold(Datalist("d", data.classes, None, (extra,)))


def test_one_content_on_both_sides_is_refused():
    fold = training_fold(datalist("abc"), "c")
    same = {"c0": "x", "c1": "y", "c2": "x"}

    with pytest.raises(
        ConfigError, match=r"c2.tif \(validation\) has the same content"
    ):
        check_duplicates(fold, same)
    assert "same content" in check_duplicates(fold, same, allow=True).warnings[0]
    twice = check_duplicates(fold, {"c0": "x", "c1": "x", "c2": "z"})
    assert "c1.tif (training) has the same content as c0.tif" in twice.warnings[0]


def test_a_content_hash_sees_every_voxel_and_the_shape():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    other = array.copy()
    other[1, 2, 3] ^= 1

    assert content_hash(array) == content_hash(np.asfortranarray(array))
    every = [array, other, array.reshape(2, 4, 3), array.astype(np.uint16)]
    assert len({content_hash(a) for a in every}) == 4
    assert json.dumps(content_hash(array))

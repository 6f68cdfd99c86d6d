from dataclasses import replace

import pytest

from cellseg3d.benchmark.dataset import write_fold
from cellseg3d.benchmark.study import load_study
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.datasets.datalist import load_datalist, write_datalist


@pytest.fixture
def dataset(study_path):
    return load_study(study_path).datasets[0]


def test_a_fold_on_disk_trains_on_all_but_the_held_out(dataset, tmp_path):
    fold = write_fold(dataset, dataset.open(tmp_path), 1, tmp_path / "folds")

    written = load_datalist(fold.path)
    sides = {case.name: case.split for case in written.cases}
    assert sides == {"a": None, "b": "test", "c": "test"}
    assert [case.name for case in fold.training] == ["a"]
    assert [case.name for case in fold.tests] == ["b", "c"]
    assert fold.warnings == ()


def test_one_specimen_on_both_sides_is_refused_or_said(dataset, tmp_path):
    datalist = dataset.open(tmp_path)
    same = replace(
        datalist, cases=tuple(replace(case, group="fly") for case in datalist.cases)
    )

    with pytest.raises(ConfigError, match="'fly' is in training and in test"):
        write_fold(dataset, same, 0, tmp_path)

    fold = write_fold(dataset, replace(same, allow_shared_groups=True), 0, tmp_path)
    assert "do not measure how well" in fold.warnings[0]
    assert fold.unit_of(fold.tests[0]) == "a"


def test_the_cases_of_the_curve_are_kept_apart_and_warn_of_nothing(dataset, tmp_path):
    datalist = dataset.open(tmp_path)
    groups = {"a": "fly1", "b": "fly2", "c": "fly1"}
    cases = tuple(replace(case, group=groups[case.name]) for case in datalist.cases)
    shared = replace(datalist, cases=cases, allow_shared_groups=True)
    wanted = replace(dataset, tests=(("b",),), validate=(("c",),))

    fold = write_fold(wanted, shared, 0, tmp_path / "folds")

    assert [case.name for case in fold.training] == ["a"]
    assert [case.name for case in fold.validation] == ["c"]
    assert [case.name for case in fold.tests] == ["b"]
    assert fold.warnings == ()
    assert fold.unit_of(fold.tests[0]) == "fly2"
    sides = {case.name: case.split for case in load_datalist(fold.path).cases}
    assert sides == {"a": None, "b": "test", "c": "test"}
    assert wanted.recipe(0)["validate"] == ["c"]


def test_volumes_of_one_specimen_held_out_together_are_one_unit(dataset, tmp_path):
    datalist = dataset.open(tmp_path)
    groups = {"a": "fly1", "b": "fly2", "c": "fly2"}
    cases = tuple(replace(case, group=groups[case.name]) for case in datalist.cases)

    fold = write_fold(dataset, replace(datalist, cases=cases), 1, tmp_path)

    assert {fold.unit_of(case) for case in fold.tests} == {"fly2"}


def test_a_missing_datalist_is_named(dataset, tmp_path):
    gone = replace(dataset, datalist=tmp_path / "nowhere.json")

    with pytest.raises(InputError, match="nowhere"):
        gone.open(tmp_path)


def test_a_simulated_data_set_is_made_once(dataset, tmp_path):
    simulated = replace(
        dataset,
        name="cells",
        datalist=None,
        simulate={"n": 2, "shape": 24, "seed": 3},
        target="nucleus",
        tests=(("cell_000",),),
    )

    first = simulated.open(tmp_path)
    before = (tmp_path / "cells" / "cell_000.mrc").stat().st_mtime_ns
    second = simulated.open(tmp_path)

    assert [case.name for case in first.cases] == ["cell_000", "cell_001"]
    assert (tmp_path / "cells" / "cell_000.mrc").stat().st_mtime_ns == before
    assert first == second


def test_a_fold_that_holds_out_nothing_labelled_is_refused(dataset, tmp_path):
    datalist = dataset.open(tmp_path)
    bare = tuple(
        replace(case, label=None) if case.name == "a" else case
        for case in datalist.cases
    )
    write_datalist(replace(datalist, cases=bare), tmp_path / "bare.json")

    with pytest.raises(ConfigError, match="no case with a label"):
        write_fold(dataset, load_datalist(tmp_path / "bare.json"), 0, tmp_path)

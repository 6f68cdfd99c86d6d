"""The matrix is worked through once, whatever goes wrong in a cell."""

import json
import os
import shutil
import socket
from dataclasses import replace

import numpy as np
import pytest

from cellseg3d.benchmark import runner
from cellseg3d.benchmark.bundles import MODEL
from cellseg3d.benchmark.outcome import Predicted, Trained
from cellseg3d.benchmark.process import Cost
from cellseg3d.benchmark.results import write_results
from cellseg3d.benchmark.runner import Bench, pending, run_jobs
from cellseg3d.benchmark.study import load_study
from cellseg3d.core.errors import CellSegError, ConfigError, EnvironmentFault
from cellseg3d.io.registry import read_labels, write_labels

COST = Cost(1.0, 2.0, 0.5)


@pytest.fixture
def bench(study_path, tmp_path, monkeypatch):
    """A benchmark whose networks are: 2D sees one ball, 2.5D fails, fused sees all."""

    def train(method, fold, budget, folder):
        if method.name == "2.5D":
            raise CellSegError(f"{folder / 'log.txt'}: out of patience")
        (folder / MODEL).mkdir()
        return Trained(COST, 7, 700, 100)

    def predict(method, runs, fold, folder):
        labels = {}
        for case in fold.tests:
            truth = read_labels(case.label)
            array = truth.read().copy()
            if method.name == "2D":
                array[:, :12] = 0
            labels[case.name] = str(folder / f"{case.name}.tif")
            write_labels(folder / f"{case.name}.tif", truth.with_array(array))
        assert all(run.exists() for run in runs)
        return Predicted(COST, labels, 0.25)

    monkeypatch.setattr(runner, "train_bundle", train)
    monkeypatch.setattr(runner, "predict_bundles", predict)
    return Bench(load_study(study_path), tmp_path / "out")


def test_a_cell_that_fails_is_recorded_and_stops_nothing(bench):
    jobs, done = pending(bench)

    records = run_jobs(bench, jobs)

    assert (len(jobs), done) == (12, 0)
    states = {record.method: record.state for record in records}
    assert states == {"2D": "done", "2.5D": "failed", "fused": "done"}
    failed = next(record for record in records if record.state == "failed")
    assert failed.reason == f"runs/{failed.key}/log.txt: out of patience"


def test_records_hold_scores_and_added_costs(bench):
    run_jobs(bench, pending(bench, ["fold1_seed0"])[0])

    values = json.loads(bench.record_path("balls_2D_fold1_seed0_0.01min").read_text())
    assert set(values["volumes"]) == {"b", "c"}
    assert values["volumes"]["b"]["scores"]["dice"] == pytest.approx(2 / 3)
    fused = json.loads(bench.record_path("balls_fused_fold1_seed0_0.01min").read_text())
    assert fused["volumes"]["c"]["scores"]["dice"] == 1
    assert fused["parameters"] == 100
    assert fused["training"]["cpu_s"] == 2.0
    assert fused["prediction"]["volumes_s"] == 0.25


def test_what_has_a_record_is_not_run_again_and_what_failed_is(bench):
    run_jobs(bench, pending(bench)[0])

    jobs, done = pending(bench)

    assert done == 8
    assert {job.method.name for job in jobs} == {"2.5D"}


def test_a_record_of_other_settings_is_never_mixed_in(bench):
    run_jobs(bench, pending(bench, ["balls_2D_fold0_seed0_0.01min"])[0])
    other = replace(bench, study=replace(bench.study, clock="cpu"))

    with pytest.raises(ConfigError, match="made with another clock"):
        pending(other)


def test_fusing_a_network_that_is_gone_says_so(bench):
    run_jobs(bench, pending(bench, ["balls_2D_fold0_seed0_0.01min"])[0])
    shutil.rmtree(bench.run_folder("balls_2D_fold0_seed0_0.01min"))

    (record,) = run_jobs(bench, pending(bench, ["balls_fused_fold0_seed0_0.01min"])[0])

    assert record.state == "failed"
    assert "its network is gone" in record.reason


def test_fusing_what_was_not_trained_says_so(bench):
    (record,) = run_jobs(bench, pending(bench, ["balls_fused_fold0_seed0_0.01min"])[0])

    assert (
        record.reason
        == "balls_2D_fold0_seed0_0.01min: was not run, and 'fused' needs it"
    )


def test_an_interruption_leaves_the_cells_before_it(bench):
    def stop(job):
        if job.method.name == "fused":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(bench, pending(bench, ["fold0_seed0"])[0], before=stop)

    assert bench.record_path("balls_2D_fold0_seed0_0.01min").exists()
    assert not bench.record_path("balls_fused_fold0_seed0_0.01min").exists()


def test_a_pattern_that_fits_nothing_names_a_cell(bench):
    with pytest.raises(ConfigError, match=r"balls_2D_fold0_seed0_0\.01min"):
        pending(bench, ["3D*"])


def test_results_rebuild_from_records_without_data_or_networks(bench, tmp_path):
    pytest.importorskip("matplotlib")
    run_jobs(bench, pending(bench)[0])
    for name in ("runs", "folds"):
        shutil.rmtree(bench.folder / name)
    for image in tmp_path.glob("?.tif"):
        image.unlink()

    values = write_results(bench.study, bench.folder)

    methods = values["datasets"]["balls"]["methods"]
    assert methods["2D"]["scores"]["dice"]["mean"] == pytest.approx(2 / 3)
    assert methods["fused"]["scores"]["dice"]["n"] == 3
    assert np.isclose(values["datasets"]["balls"]["comparison"][0]["difference"], 1 / 3)
    assert len(values["incomplete"]) == 4
    assert (bench.folder / "pareto.png").stat().st_size > 10_000


def test_two_benchmarks_in_one_folder_are_refused(bench):
    bench.folder.mkdir()
    owner = {"host": socket.gethostname(), "pid": os.getppid(), "started": ""}
    (bench.folder / ".lock").write_text(json.dumps(owner))

    with pytest.raises(EnvironmentFault, match=str(os.getppid())):
        run_jobs(bench, pending(bench)[0])

    assert not (bench.folder / "runs").exists()

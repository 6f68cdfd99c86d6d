import json
import multiprocessing

import numpy as np
import pytest

from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.simulated import (
    SimulationOptions,
    ensure_dataset,
    simulate_dataset,
)
from cellseg3d.io.registry import open_volume, read_labels, read_volume
from cellseg3d.simulate.case import simulate_case


def test_a_data_set_reads_back_as_it_was_simulated(tmp_path):
    path = simulate_dataset(tmp_path / "new" / "set", 2, (32, 40, 36), seed=5)

    datalist = load_datalist(path)

    assert path == tmp_path / "new" / "set" / "datalist.json"
    assert datalist.classes == ("background", "cytoplasm", "nucleus", "mitochondrion")
    assert datalist.label_map == {0: 0, 1: 1, 2: 2, 3: 1, 4: 1, 5: 3}
    assert datalist.intensity_unit == "1/um"
    assert [case.group for case in datalist.cases] == ["cell_000", "cell_001"]
    assert [case.split for case in datalist.cases] == [None, None]
    for number, case in enumerate(datalist.cases):
        truth = simulate_case((32, 40, 36), 5 + number)
        image, label = read_volume(case.image), read_labels(case.label)
        np.testing.assert_array_equal(image.read(), truth.tomogram.read())
        np.testing.assert_array_equal(label.read(), truth.labels.read())
        assert image.intensity_unit == "1/um"
        assert image.spacing.is_close(truth.tomogram.spacing)


def test_every_file_says_simulated(tmp_path):
    path = simulate_dataset(tmp_path, 1, 32, options=SimulationOptions(mount="grid"))

    case = load_datalist(path).cases[0]

    for file in (case.image, case.label):
        assert open_volume(file).provenance["simulated"] is True
        assert open_volume(file).provenance["mount"] == "grid"
    assert json.loads((tmp_path / "truth.json").read_text())["simulated"] is True
    assert "simulated" in json.loads(path.read_text())["name"]


def test_the_truth_holds_volumes_and_coefficients(tmp_path):
    path = simulate_dataset(tmp_path, 1, 32, options=SimulationOptions(spacing_um=0.06))

    truth = json.loads((tmp_path / "truth.json").read_text())["cases"]["cell_000"]

    labels = read_labels(load_datalist(path).cases[0].label).read()
    nucleus = np.count_nonzero(labels == truth["label_values"]["nucleus"])
    assert truth["volumes_um3"]["nucleus"] == pytest.approx(nucleus * 0.06**3)
    assert 0.1 < truth["lac_per_um"]["ice"] < truth["lac_per_um"]["lipid droplet"]


def test_mounts_take_turns_and_the_last_cases_are_for_testing(tmp_path):
    seen = []

    path = simulate_dataset(
        tmp_path,
        3,
        32,
        options=SimulationOptions(mount="mixed", test_cases=1),
        progress=lambda done, total: seen.append((done, total)),
    )

    cases = load_datalist(path).cases
    mounts = [open_volume(case.image).provenance["mount"] for case in cases]
    assert mounts == ["capillary", "grid", "capillary"]
    assert [case.split for case in cases] == ["training", "training", "test"]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_what_is_there_is_left_alone(tmp_path):
    first = ensure_dataset(tmp_path, 1, 32)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}

    second = ensure_dataset(tmp_path, 3, 48, seed=9)

    assert first == second
    after = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert after == before
    assert len(load_datalist(second).cases) == 1


def test_processes_that_ask_at_once_share_one_data_set(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=ensure_dataset, args=(tmp_path, 1, 32)) for _ in range(2)
    ]

    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0, 0]
    image = read_volume(load_datalist(tmp_path).cases[0].image).read()
    np.testing.assert_array_equal(image, simulate_case(32, 0).tomogram.read())
    assert not list(tmp_path.glob(".cellseg3d*"))


@pytest.mark.parametrize(("n", "held_out"), [(0, 0), (2, 2), (2, -1)])
def test_counts_that_make_no_sense_are_refused(tmp_path, n, held_out):
    with pytest.raises(ConfigError, match=f"{n} cells with {held_out} for testing"):
        simulate_dataset(
            tmp_path, n, 32, options=SimulationOptions(test_cases=held_out)
        )

    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_the_machines_fault(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(EnvironmentFault, match="file"):
        simulate_dataset(tmp_path / "file" / "set", 1, 32)

import json

import pytest

from cellseg3d.benchmark.record import Record, write_record
from cellseg3d.cli.main import main

STUDY = """
name: Cells
question: Which one?
minutes: 1
seeds: [0]
datasets:
  - {name: cells, simulate: {n: 2, shape: 24}, target: nucleus, tests: [cell_000]}
methods:
  - {name: 2D, bundle: cell_tomo_unet2d}
  - {name: 3D, bundle: cell_tomo_unet3d}
  - {name: nnU-Net, peer: nnunet-2d}
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def write(folder, method, dice):
    cost = {"elapsed_s": 60.0, "cpu_s": 60.0, "peak_gib": 1.0}
    record = Record(
        key=f"cells_{method}_fold0_seed0_1min",
        study="Cells",
        dataset="cells",
        target="nucleus",
        method=method,
        fold=0,
        seed=0,
        recipe={"minutes": 1.0},
        state="done",
        volumes={"cell_000": {"unit": "cell_000", "scores": {"dice": dice}}},
        training={**cost, "steps": 5},
        prediction={**cost, "volumes_s": 2.0},
        parameters=10,
    )
    write_record(record, folder)


def test_tables_come_from_records_alone(study, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    write(tmp_path / "out", "2D", 0.5)
    write(tmp_path / "out", "3D", 0.75)

    code = main(
        ["benchmark", str(study), "--out", str(tmp_path / "out"), "--tables-only"]
    )

    text = capsys.readouterr().out
    assert code == 0
    assert "| 3D | 0.750 | 1 |" in text
    assert "| 3D minus 2D | +0.250 |" in text
    assert (tmp_path / "out" / "benchmark.md").read_text() == text
    assert not (tmp_path / "out" / "data").exists()


def test_json_is_the_whole_output(study, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    write(tmp_path / "out", "2D", 0.5)
    words = ["--out", str(tmp_path / "out"), "--tables-only", "--json"]

    main(["benchmark", str(study), *words])

    values = json.loads(capsys.readouterr().out)
    mean = values["datasets"]["cells"]["methods"]["2D"]["scores"]["dice"]["mean"]
    assert mean == 0.5


def test_no_records_is_one_line(study, tmp_path, capsys):
    code = main(["benchmark", str(study), "--out", str(tmp_path), "--tables-only"])

    assert code == 3
    assert "holds no record" in capsys.readouterr().err


def test_a_missing_tool_is_skipped_and_said(study, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["--out", str(tmp_path / "out"), "--only", "nnU-Net"]

    code = main(
        ["benchmark", str(study), *words, "--nnunet-python", str(tmp_path / "none")]
    )

    shown = capsys.readouterr()
    assert code == 0
    assert "1 job to run, 0 done before" in shown.err
    assert "skipped: --nnunet-python" in shown.err
    assert "No cell has finished yet." in shown.out


def test_a_system_that_cannot_measure_is_refused(study, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr("os.wait4")

    code = main(["benchmark", str(study), "--out", str(tmp_path / "out")])

    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 4
    assert len(lines) == 1
    assert "lacks os.wait4" in lines[0]
    assert "--tables-only" in lines[0]
    assert not (tmp_path / "out").exists()

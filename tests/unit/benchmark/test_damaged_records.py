"""Records and studies that were changed by hand are refused with the place."""

import json

import pytest
import yaml

from cellseg3d.benchmark.record import Record, read_record, write_record
from cellseg3d.benchmark.study import load_study
from cellseg3d.core.errors import ConfigError
from cellseg3d.report.benchmark_folder import read_benchmark

RECORD = Record(
    "a_fold0_seed0", "s", "d", "nucleus", "2D", 0, 0, {"minutes": 1}, "done",
    volumes={"v": {"unit": "v", "scores": {"dice": 0.5, "hd95_um": "inf"}}},
    training={"elapsed_s": 1.0}, prediction={"elapsed_s": 1.0},
)  # fmt: skip


def test_a_record_is_read_as_it_was_written(tmp_path):
    assert read_record(write_record(RECORD, tmp_path)) == RECORD


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("volumes", {"v": {"unit": "v", "scores": None}}, "volumes.v.scores is None"),
        ("volumes", {"v": None}, "volumes.v is None; expected a mapping"),
        ("volumes", {"v": {"unit": "v", "scores": {"dice": "anf"}}}, "dice is 'anf'"),
        ("training", {"elapsed_s": {}}, "training.elapsed_s is {}"),
        ("state", "dne", "state is 'dne'; expected 'done' or"),
        ("sead", 1, "unknown key 'sead'"),
    ],
)
def test_a_changed_record_is_refused_with_the_way_out(tmp_path, key, value, words):
    path = write_record(RECORD, tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    with pytest.raises(
        ConfigError, match=f"no record of a benchmark .*{words}.*; take it away"
    ):
        read_record(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seeds", 3),
        ("methods", [7]),
        ("datasets", {"a": 1}),
        ("minutes", "x"),
        ("name", [1]),
    ],
)
def test_a_study_of_another_form_is_refused(tmp_path, key, value):
    values = {
        "name": "s",
        "question": "q",
        "datasets": [
            {"name": "a", "datalist": "a.json", "target": "c", "tests": ["x"]}
        ],
        "methods": [{"name": "m", "bundle": "cell_tomo_unet2d"}],
        "seeds": [0],
        "minutes": 1,
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values))
    assert [job.method.name for job in load_study(path).jobs()] == ["m"]

    path.write_text(yaml.safe_dump({**values, key: value}))

    with pytest.raises(ConfigError, match=rf"study.yaml: {key}"):
        load_study(path)


@pytest.mark.parametrize("values", [{}, {"datasets": {"a": []}, "incomplete": []}])
def test_values_of_a_page_that_no_benchmark_wrote_are_refused(tmp_path, values):
    (tmp_path / "benchmark.json").write_text(json.dumps(values))

    with pytest.raises(ConfigError, match=r"benchmark.json: datasets"):
        read_benchmark(tmp_path)

"""A search finds the better value, goes on after a stop, and never sees its test."""

import json
import os
import socket

import pytest
import yaml

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.shipped import find_bundle
from cellseg3d.cli.main import main
from cellseg3d.core.errors import ConfigError, EnvironmentFault, FormatError
from cellseg3d.runs.folder import create_run
from cellseg3d.runs.options import TrainOptions
from cellseg3d.tuning import search
from cellseg3d.tuning.search import TuneOptions, tune
from cellseg3d.tuning.space import read_space

pytest.importorskip("optuna")
FIXED = {
    "network_def::channels": [4, 8],
    "spec::patch_shape": [16, 16, 16],
    "train::dataset::samples": 8,
    "val_interval": 1,
}
# The first rate cannot learn in so few steps.
SEARCH = {"optimizer::lr": [1e-9, 0.02], "train::dataset::foreground": [0.5]}


def write_space(folder, search=None, fixed=None):
    path = folder / "space.yaml"
    values = {"bundle": "cell_tomo_unet3d", "set": fixed or FIXED}
    path.write_text(yaml.safe_dump({**values, "search": search or SEARCH}))
    return path


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_nested_search_finds_the_rate_that_learns_and_goes_on(balls, tmp_path):
    space = read_space(write_space(tmp_path))
    options = TuneOptions(trials=3, epochs=3, outer=0, device="cpu")
    out = tmp_path / "search"
    seen = []

    first = tune(space, balls, out, options, lambda *row: seen.append(row))
    more = TuneOptions(trials=4, epochs=3, outer=3, device="cpu")
    result = tune(space, balls, out, more, lambda *row: seen.append(row))

    rows = result["studies"][-1]["trials"]
    by_rate = {row["settings"]["optimizer::lr"]: row["score"] for row in rows}
    assert [row["score"] for row in first["studies"][0]["trials"]] == [
        row["score"] for row in rows[:3]
    ]
    assert len(rows) == 4
    assert result["best"]["settings"]["optimizer::lr"] == 0.02
    assert by_rate[0.02] > by_rate[1e-9]
    held = [study["held_out"] for study in result["studies"][:-1]]
    assert sorted(name for names in held for name in names) == [
        "ball0",
        "ball1",
        "ball2",
    ]
    assert result["nested"]["n"] == 3
    assert all(score > 0.05 for score in result["nested"]["parts"])
    for study in result["studies"][:-1]:
        records = [
            json.loads(path.read_text())["data"]
            for path in (out / study["name"]).glob("*/run.json")
        ]
        used = {name for data in records for name in data["training"]}
        used |= {name for data in records for name in data["validation"]}
        assert len(records) == 5
        assert used.isdisjoint(study["held_out"])
    plan = TrainOptions(plan=read_config(out / "best.yaml"))
    config = create_run(find_bundle("cell_tomo_unet3d"), balls, tmp_path / "r", plan)
    assert read_config(config)["optimizer"]["lr"] == 0.02


@pytest.mark.parametrize(
    ("search", "text"),
    [
        ({"optimiser::lr": [1, 2]}, "did you mean 'optimizer::lr'"),
        ({"optimizer::lr": {"low": 1, "high": 0.1}}, "low below high"),
        ({"optimizer::lr": {"low": 0, "high": 1, "log": True}}, "above 0 for log"),
        ({"optimizer::lr": {"low": 0, "hihg": 1}}, "expected a list of values"),
        ({"optimizer::lr": 3}, "expected a list of values"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_before_any_trial(
    tmp_path, search, text
):
    with pytest.raises(ConfigError, match=text):
        read_space(write_space(tmp_path, search))


def test_too_few_specimens_and_a_folder_in_use_are_named(balls, tmp_path):
    space = read_space(write_space(tmp_path))

    with pytest.raises(ConfigError, match="4 folds of 3 groups"):
        tune(space, balls, tmp_path / "a", TuneOptions(outer=4))
    with pytest.raises(ConfigError, match="inner folds of 2 specimens"):
        tune(space, balls, tmp_path / "a", TuneOptions(outer=3, inner=3))
    (tmp_path / "b").mkdir()
    owner = {"host": socket.gethostname(), "pid": os.getppid(), "started": "then"}
    (tmp_path / "b" / ".lock").write_text(json.dumps(owner), encoding="utf-8")
    with pytest.raises(EnvironmentFault, match="in use by process"):
        tune(space, balls, tmp_path / "b", TuneOptions(outer=0))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_command_draws_and_writes_what_it_found(balls, tmp_path, capsys):
    space = write_space(tmp_path, {"optimizer::lr": [0.02]})
    words = ["tune", str(space), "--data", str(balls), "--out", str(tmp_path / "s")]
    more = ["--trials", "1", "--epochs", "1", "--outer", "0", "--device", "cpu"]

    code = main([*words, *more, "--json", str(tmp_path / "t.json")])

    said = capsys.readouterr().out
    found = json.loads((tmp_path / "t.json").read_text())
    assert code == 0
    assert "all trial 0: complete" in said
    assert "--plan" in said
    assert found["studies"][0]["best"]["score"] > 0
    assert (tmp_path / "s" / "all.png").read_bytes()[:4] == b"\x89PNG"


def test_a_damaged_database_is_told_in_one_line(balls, tmp_path):
    space = read_space(write_space(tmp_path))
    out = tmp_path / "search"
    out.mkdir()
    (out / "tune.db").write_bytes(b"SQLite format 3\0" + bytes(5000))

    with pytest.raises(FormatError, match=r"tune.db: is damaged \(.*; remove it"):
        tune(space, balls, out, TuneOptions(trials=1, epochs=1, outer=0))


@pytest.mark.parametrize(
    "values", [["@missing", 16, 16], [16.5, 16, 16], [True, 16, 16], "x"]
)
def test_a_space_whose_patch_is_no_number_is_refused(balls, tmp_path, values):
    search = {"spec::patch_shape": [values]}
    space = read_space(write_space(tmp_path, search, {"val_interval": 1}))
    options = TuneOptions(trials=1, epochs=1, outer=0, device="cpu")

    with pytest.raises(ConfigError, match="expected whole numbers"):
        tune(space, balls, tmp_path / "search", options)


def test_fixed_values_that_are_no_mapping_are_refused(tmp_path):
    path = tmp_path / "space.yaml"
    text = "search: {'optimizer::lr': [0.1, 0.2]}\nset: '@missing'\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="'set' is '@missing'; expected config keys"):
        read_space(path)


def test_trials_that_were_killed_do_not_count_as_diverged(balls, tmp_path, monkeypatch):
    space = read_space(write_space(tmp_path))
    options = TuneOptions(trials=1, epochs=1, outer=0, device="cpu")
    out = tmp_path / "search"
    train = search._Search._train

    def killed(self, folder, *rest):
        folder.mkdir()
        (folder / "run.json").write_text('{"best_score": 1.0}')
        raise KeyboardInterrupt

    monkeypatch.setattr(search._Search, "_train", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            tune(space, balls, out, options)
    study = search._open_study(out / search.DATABASE, search.FINAL, 0)
    study.ask()  # as after a kill, nothing has told its end
    half = out / search.FINAL / "trial003_0"
    half.mkdir()
    monkeypatch.setattr(search._Search, "_train", train)

    result = tune(space, balls, out, options)

    rows = result["studies"][-1]["trials"]
    assert [row["state"] for row in rows].count("complete") == 1
    assert not half.exists()
    assert 0 < result["best"]["score"] < 1

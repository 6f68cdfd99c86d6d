"""The way from nothing to a report, on a system that has nothing of Unix."""

import json
import os
import subprocess
import sys
from pathlib import Path

import plain_platform
import pytest

from cellseg3d.io.registry import read_labels

ENVIRONMENT = {
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "cp1252",
    "OMP_NUM_THREADS": "1",
}
# Windows and macOS name files in UTF-8 whatever the locale. Linux without UTF-8 has no
# letters for such names, and torch and safetensors then refuse them: the command line
# starts anew in UTF-8, and names are ASCII where Python calls the verbs itself.
FOLDERS = {"1": "Zellen für Jörg, Größe 2 \N{MICROSCOPE}", "0": "cells, dish 2"}
LONG = ("Zelle 1.2 " + "lang " * 40)[:196] + ".mrc"
TINY = (
    "network_def::channels=[4, 8]",
    "spec::patch_shape=[16, 16, 16]",
    "train::dataset::samples=2",
    "val_interval=1",
)


def commands(place: Path, workers: str) -> list[list[str]]:
    data, run, out = (str(place / name) for name in ("data", "my runs", "out"))
    tiny = [word for text in TINY for word in ("--set", text)]
    train = ["train", "--bundle", "cell_tomo_unet3d", "--data", data, "--out", run]
    labels = f"{out}/{LONG.removesuffix('.mrc')}_labels.mrc"
    return [
        [
            "simulate",
            "--out",
            data,
            "--n",
            "2",
            "--shape",
            "24,32,32",
            "--tilt-step",
            "10",
        ],
        [*train, *tiny, "--device", "cpu", "--epochs", "1", "--workers", workers],
        [
            "predict",
            f"{data}/cell_000.mrc",
            str(place / LONG),
            "--bundle",
            run,
            "--out",
            out,
            "--device",
            "cpu",
            "--probs",
            "uint8",
        ],
        [
            "objects",
            f"{data}/cell_000_labels.mrc",
            "--out",
            f"{out}/objects.mrc",
            "--json",
            f"{out}/objects.json",
        ],
        [
            "evaluate",
            labels,
            f"{data}/cell_001_labels.mrc",
            "--csv",
            f"{out}/scores.csv",
            "--json",
            f"{out}/scores.json",
        ],
        ["report", run, "--out", f"{out}/page 1.html"],
    ]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("1", id="any letter"),
        pytest.param("0", id="ASCII", marks=pytest.mark.slow),
    ],
)
def utf8(request):
    return request.param


@pytest.fixture(scope="module")
def place(tmp_path_factory, utf8):
    return tmp_path_factory.mktemp("plain") / FOLDERS[utf8]


@pytest.fixture(scope="module")
def said(place, utf8):
    """What the commands print; the second volume has a name of 200 characters."""
    place.mkdir()
    listed = commands(place, workers=utf8)
    first, rest = place / "first.json", place / "rest.json"
    first.write_text(json.dumps(listed[:1]), encoding="utf-8")
    rest.write_text(json.dumps(listed[1:]), encoding="utf-8")
    told = run_plain(first, utf8)
    (place / LONG).write_bytes((place / "data" / "cell_001.mrc").read_bytes())
    return told + run_plain(rest, utf8)


def run_plain(file: Path, utf8: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", plain_platform.__file__, str(file)],
        env=os.environ | ENVIRONMENT | {"PYTHONUTF8": utf8},
        capture_output=True,
        check=False,
    )
    told = (done.stdout + done.stderr).decode("cp1252", errors="replace")
    assert done.returncode == 0, told
    return told


def test_every_command_runs_without_what_only_unix_has(said):
    verbs = ("simulate", "train", "predict", "objects", "evaluate", "report")

    assert [f"{verb} ended in 0" in said for verb in verbs] == [True] * len(verbs)


def test_files_have_the_names_that_were_asked_for(place, said):
    del said
    out = place / "out"
    labels = out / f"{LONG.removesuffix('.mrc')}_labels.mrc"

    assert len(LONG) == 200
    assert read_labels(labels).shape == (24, 32, 32)
    assert read_labels(out / "objects.mrc").read().max() >= 1
    assert "class" in (out / "scores.csv").read_text(encoding="utf-8")
    page = (out / "page 1.html").read_text(encoding="utf-8")
    assert "my runs" in page
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert "mean" in json.dumps(scores)


def test_a_letter_that_the_console_does_not_have_is_escaped(said, utf8):
    assert ("\\U0001f52c" in said) == (utf8 == "1")


def test_a_command_in_a_c_locale_takes_names_with_any_letter(tmp_path):
    place = tmp_path / "Größe 细胞"
    place.mkdir()
    [simulate, train, predict, *_] = commands(place, workers="0")
    predict.remove(str(place / LONG))
    c_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

    for words in (simulate, train, predict):
        done = subprocess.run(
            [sys.executable, "-m", "cellseg3d", *words],
            env=os.environ | c_locale | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]

    record = json.loads((place / "my runs" / "run.json").read_text(encoding="utf-8"))
    assert Path(record["data"]["datalist"]).parent.parent == place
    assert read_labels(place / "out" / "cell_000_labels.mrc").shape == (24, 32, 32)

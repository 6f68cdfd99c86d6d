"""A file name that is no UTF-8 stops no verb."""

import os
import subprocess
import sys

import numpy as np
import pytest

from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    label = np.zeros((4, 8, 8), np.uint8)
    label[1:3, 2:5, 2:5] = 1
    place = tmp_path / "d"
    place.mkdir()
    for gain, stem in ((50, "b"), (60, os.fsdecode(b"\xffa"))):
        write_volume(tmp_path / "t.tif", Volume(label * gain + 3))
        os.rename(tmp_path / "t.tif", place / f"{stem}_image.tif")  # noqa: PTH104
        write_labels(tmp_path / "t.tif", Volume(label))
        os.rename(tmp_path / "t.tif", place / f"{stem}_label.tif")  # noqa: PTH104
    return place


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="no such names")
@pytest.mark.parametrize(
    "words",
    [
        ["doctor", "{d}", "--json", "{o}.json"],
        ["inspect", "{d}"],
        ["evaluate", "{f}", "{f}", "--csv", "{o}.csv", "--json", "{o}.json"],
        ["measure", "{f}", "--out", "{o}.csv", "--json", "{o}.json"],
        ["objects", "{f}", "--out", "{o}.tif", "--json", "{o}.json"],
        ["convert", "{f}", "{o}.nii"],
        ["report", "--prediction", "{f}", "--truth", "{f}", "--out", "{o}.html"],
    ],
)
def test_a_name_that_is_no_text_stops_no_verb(folder, tmp_path, words):
    file = folder / os.fsdecode(b"\xffa_label.tif")
    given = {"d": folder, "f": file, "o": tmp_path / "out"}

    # In a process of its own: such a name cannot pass between those of pytest.
    done = subprocess.run(
        [sys.executable, "-m", "cellseg3d", *(word.format(**given) for word in words)],
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.glob("out.*") if path.stat().st_size]
    assert len(written) == sum("{o}" in word for word in words)

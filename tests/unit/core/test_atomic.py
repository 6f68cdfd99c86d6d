import errno
import subprocess
import sys

import pytest

from cellseg3d.core.atomic import (
    atomic_write,
    sweep_orphans,
    temporary_name,
    write_text,
)
from cellseg3d.core.errors import EnvironmentFault


def test_a_writer_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "labels.tif"
    path.write_text("old")

    def writer(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(EnvironmentFault, match="disk full"):
        atomic_write(path, writer)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_has_the_same_bytes_on_every_system(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old", encoding="utf-8")

    write_text(path, "5 µm\nthick\n")

    assert path.read_bytes() == b"5 \xc2\xb5m\nthick\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_read_back_never_gets_its_name(tmp_path):
    path = tmp_path / "labels.tif"
    path.write_text("old")

    def verify(temporary):
        raise ValueError(temporary.read_text())

    with pytest.raises(ValueError, match="new"):
        atomic_write(path, lambda temporary: _write(temporary, "new"), verify=verify)

    assert path.read_text() == "old"


def test_the_previous_file_is_kept_when_asked(tmp_path):
    path = tmp_path / "model.pt"

    for text in ("one", "two", "three"):
        atomic_write(
            path, lambda file, text=text: _write(file, text), keep_previous=True
        )

    assert path.read_text() == "three"
    assert (tmp_path / "model.pt.prev").read_text() == "two"


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    assert temporary_name(tmp_path / "a.b.nii.gz").name.endswith(".nii.gz")


def test_orphans_of_dead_processes_are_swept_and_living_ones_kept(tmp_path):
    code = (
        "import sys; from pathlib import Path;"
        "from cellseg3d.core.atomic import temporary_name;"
        "temporary_name(Path(sys.argv[1])).write_text('half')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.tif")], check=True)
    mine = temporary_name(tmp_path / "b.tif")
    mine.write_text("half")

    removed = sweep_orphans(tmp_path)

    assert len(removed) == 1
    assert list(tmp_path.iterdir()) == [mine]


def _write(path, text):
    path.write_text(text)

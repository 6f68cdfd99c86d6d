"""Only what this package wrote is replaced, and never an input."""

import os
import subprocess
import sys

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.atomic import environment_fault, temporary_name
from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.core.volume import Volume
from cellseg3d.io.output.ownership import check_outputs, check_replaceable
from cellseg3d.io.registry import (
    create_volume,
    open_volume,
    read_volume,
    write_labels,
    write_volume,
)

LABELS = np.zeros((4, 6, 6), np.uint8)
LABELS[1:3, 1:3, 1:3] = 1


@pytest.fixture
def labels(tmp_path):
    return write_labels(tmp_path / "l.mrc", Volume(LABELS))


def error_of(capsys):
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
@pytest.mark.parametrize("verb", ["objects", "convert"])
def test_a_folder_of_the_users_stays(tmp_path, labels, capsys, verb, more):
    thesis = tmp_path / "results" / "thesis"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    words = [str(labels), str(thesis.parent)]
    if verb == "objects":
        words.insert(1, "--out")

    code = main([verb, *words, *more])

    assert code in (3, 4)
    assert "results" in error_of(capsys)
    assert thesis.read_text() == "years of work"


@pytest.mark.parametrize("name", ["out.zarr", "out"])
@pytest.mark.parametrize("stranger", ["notes.txt", "0/notes.txt", "empty/"])
def test_a_folder_of_ours_with_a_strange_file_stays(tmp_path, name, stranger):
    place = write_volume(tmp_path / name, Volume(LABELS))
    check_replaceable(place)
    strange = place / stranger
    if stranger.endswith("/"):
        strange.mkdir()
    else:
        strange.parent.mkdir(exist_ok=True)
        strange.write_text("mine")

    with pytest.raises(EnvironmentFault, match="did not write"):
        write_volume(place, Volume(LABELS + 1))

    assert strange.exists()
    np.testing.assert_array_equal(open_volume(place).read(), LABELS)


def test_a_zarr_of_another_program_is_not_replaced(tmp_path):
    import zarr  # noqa: PLC0415

    array = zarr.open_array(tmp_path / "a.zarr", mode="w", shape=(4, 6, 6), dtype="u1")
    array[:] = 7

    with pytest.raises(EnvironmentFault, match="did not write"):
        write_volume(tmp_path / "a.zarr", Volume(LABELS))

    assert (open_volume(tmp_path / "a.zarr").read() == 7).all()


def test_what_we_wrote_is_replaced(tmp_path):
    for name in ("out.zarr", "old.ome.zarr", "out"):
        write_volume(tmp_path / name, Volume(LABELS), ome_zarr="0.4")
        (tmp_path / name / ".DS_Store").write_text("a file browser was here")
        write_volume(tmp_path / name, Volume(LABELS * 3))
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, LABELS * 3)


@pytest.mark.parametrize(
    "words",
    [
        ["objects", "{labels}", "--out", "{labels}", "--overwrite"],
        ["objects", "{labels}", "--out", "{folder}/o.mrc", "--json", "{labels}"],
        ["convert", "{labels}", "{labels}", "--overwrite"],
        ["convert", "{labels}", "{link}", "--overwrite"],
        ["measure", "{labels}", "--json", "{labels}"],
        ["evaluate", "{labels}", "{labels}", "--csv", "{labels}"],
        ["inspect", "{labels}", "--json", "{labels}"],
        ["report", "--prediction", "{labels}", "--out", "{labels}"],
    ],
)
def test_no_verb_writes_over_its_input(tmp_path, labels, capsys, words):
    link = tmp_path / "link.mrc"
    os.link(labels, link)
    before = labels.read_bytes()
    named = {"labels": labels, "folder": tmp_path, "link": link}

    code = main([word.format(**named) for word in words])

    assert code == 3
    assert "would replace the input" in error_of(capsys)
    assert labels.read_bytes() == before


def test_outputs_that_a_disk_may_take_for_one_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="the same name"):
        check_outputs([tmp_path / "a_ER.tif", tmp_path / "A_er.tif"])
    with pytest.raises(ConfigError, match="the same name"):
        check_outputs([tmp_path / "e\u0301.tif", tmp_path / "\u00e9.tif"])
    (tmp_path / "in.zarr").mkdir()
    with pytest.raises(ConfigError, match="would replace the input"):
        check_outputs([tmp_path / "in.zarr" / "x.tif"], [tmp_path / "in.zarr"])
    with pytest.raises(ConfigError, match="would replace the input"):
        check_outputs([tmp_path], [f"{tmp_path / 'a.h5'}::raw"])


def test_a_second_writer_of_one_name_is_refused_while_the_first_lives(tmp_path):
    path = tmp_path / "pages.tif"
    code = (
        "import sys; from pathlib import Path;"
        "from cellseg3d.core.atomic import environment_fault, temporary_name;"
        "temporary_name(Path(sys.argv[1])).write_text('half');"
        "print('ready', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert first.stdout.readline() == b"ready\n"
        with pytest.raises(EnvironmentFault, match=f"process {first.pid} is writing"):
            write_volume(path, Volume(LABELS))
        assert len(list(tmp_path.iterdir())) == 1
        write_volume(tmp_path / "other.tif", Volume(LABELS))
    finally:
        first.communicate()

    write_volume(path, Volume(LABELS))

    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "other.tif",
        "pages.tif",
    ]


def test_a_number_that_another_process_took_over_does_not_block(tmp_path):
    path = tmp_path / "pages.tif"
    left = temporary_name(path)
    taken = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    taken.write_text("half")
    import psutil  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil.Process, "create_time", lambda _: 4e9)
        write_volume(path, Volume(LABELS))

    assert [each.name for each in tmp_path.iterdir()] == ["pages.tif"]


def test_a_folder_named_like_an_unfinished_volume_stays(tmp_path):
    for name in ("cell.tif", "cell.zarr"):
        (tmp_path / f"{name}.partial").mkdir()
        (tmp_path / f"{name}.partial" / "thesis").write_text("years of work")
        with create_volume(tmp_path / name, (4, 6, 6), "u1"):
            pass
        write_volume(tmp_path / name, Volume(LABELS))
        assert (tmp_path / f"{name}.partial" / "thesis").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the system's owner may write anywhere")
def test_a_read_only_folder_is_said_to_be_so(tmp_path, labels, capsys):
    place = tmp_path / "closed"
    place.mkdir(mode=0o555)

    for name in ("a.tif", "a.zarr", "a.nii.gz", "a.h5", "a"):
        assert main(["convert", str(labels), str(place / name)]) == 4
        assert "not allowed to write" in error_of(capsys)


@pytest.mark.parametrize("suffix", [".tif", ".zarr", ".nii.gz", ".h5", ".mrc", ""])
def test_a_refusal_is_told_though_the_clean_up_fails_too(tmp_path, suffix):
    source = write_labels(tmp_path / "l.mrc", Volume(LABELS))
    target = tmp_path / f"a{suffix}"

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "truncate", refuse)
        patch.setattr("pathlib.Path.mkdir", refuse)
        patch.setattr("cellseg3d.io.output.region_writer.remove", refuse)
        patch.setattr("cellseg3d.io.output.writing.remove", refuse)
        patch.setattr(
            "cellseg3d.io.output.region_writer.RegionWriter.write", refuse_nicely
        )
        with pytest.raises(EnvironmentFault, match="not allowed to write"):
            write_volume(target, Volume(LABELS))

    assert source.exists()


def refuse_nicely(writer, *_args):
    raise environment_fault(PermissionError(13, "Permission denied"), writer.path)


@pytest.mark.parametrize("name", ["x.tif", "x.ome.zarr", "0/x.mrc"])
def test_nothing_is_written_inside_of_a_zarr_store(tmp_path, labels, capsys, name):
    store = tmp_path / "store.zarr"
    assert main(["convert", str(labels), str(store)]) == 0
    before = sorted(store.rglob("*"))

    code = main(["convert", str(labels), str(store / name)])

    assert code == 3
    assert "inside of the Zarr store" in error_of(capsys)
    assert sorted(store.rglob("*")) == before
    with pytest.raises(ConfigError, match=r"inside of the Zarr store .*store\.zarr"):
        check_replaceable(store / name)

"""Whatever is wrong with a volume, `cellseg3d predict` says it in one line."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from small_bundle import small_bundle
from small_models import noise_volume

from cellseg3d.cli.main import main
from cellseg3d.cli.terminal.wording import worded
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets import intensity
from cellseg3d.io.registry import create_volume, open_volume, write_volume
from cellseg3d.prediction.output.blockwise import work_folder

SHAPE = (32, 40, 48)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("b") / "toy", core=16, halo=8)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr("cellseg3d.prediction.pipeline.CHUNK_VOXELS", 1)


def predict(volume, bundle, out, *more):
    words = ["predict", str(volume), "--bundle", str(bundle), "--out", str(out)]
    return main([*words, "--device", "cpu", "--precision", "float32", *more])


def error_of(capsys):
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    assert len(lines) == 1
    return lines[0]


def journal(labels):
    return (work_folder(labels) / "journal.jsonl").read_text().count('"crc"')


def test_a_file_of_channels_is_refused_with_an_option_that_exists(
    bundle, tmp_path, capsys
):
    path = tmp_path / "two.tif"
    voxels = np.zeros((4, 2, 16, 16), np.uint8)
    tifffile.imwrite(path, voxels, imagej=True, metadata={"axes": "ZCYX"})

    assert predict(path, bundle, tmp_path / "out") == 2

    assert "choose it with --channel (0..1)" in error_of(capsys)


def test_a_corrupt_chunk_is_named_and_its_repair_is_another_input(
    bundle, tmp_path, capsys, monkeypatch
):
    # The sample for the scale does not hold the last chunk, as in a large volume.
    first = Roi.at((0, 0, 0), (8, 8, 8))
    monkeypatch.setattr(
        intensity, "sample_voxels", lambda volume: volume.read(first).ravel()
    )
    volume = noise_volume(SHAPE)
    path = tmp_path / "a.ome.zarr"
    with create_volume(
        path, SHAPE, volume.dtype, spacing=volume.spacing, chunk=(16, 16, 16)
    ) as writer:
        writer.write(Roi.whole(SHAPE), volume.array)
    good = predict(path, bundle, tmp_path / "good")
    shards = [each for each in (path / "0" / "c").rglob("*") if each.is_file()]
    last = max(shards, key=lambda each: str(each.relative_to(path)))
    whole = last.read_bytes()
    last.write_bytes(whole[:8] + bytes(len(whole) - 8))

    code = predict(path, bundle, tmp_path)

    assert (good, code) == (0, 2)
    assert "a.ome.zarr" in error_of(capsys)
    assert journal(tmp_path / "a_labels.ome.zarr") > 0
    last.write_bytes(whole)
    assert predict(path, bundle, tmp_path) == 3
    assert "another input" in error_of(capsys)
    assert predict(path, bundle, tmp_path, "--overwrite") == 0
    np.testing.assert_array_equal(
        open_volume(tmp_path / "a_labels.ome.zarr").read(),
        open_volume(tmp_path / "good" / "a_labels.ome.zarr").read(),
    )


def test_nan_is_named_with_its_place(bundle, tmp_path, capsys):
    values = np.array(noise_volume(SHAPE).array)
    values[30, 3, 4] = np.nan
    path = write_volume(tmp_path / "a.tif", Volume(values, Spacing(0.1, 0.1, 0.1)))

    assert predict(path, bundle, tmp_path) == 2

    assert "z=30, y=3, x=4" in error_of(capsys)
    assert journal(tmp_path / "a_labels.tif") > 0


def test_a_file_that_vanishes_is_named(bundle, tmp_path, capsys, monkeypatch):
    path = write_volume(tmp_path / "a.mrc", noise_volume(SHAPE))
    from cellseg3d.prediction.pipeline import Pipeline  # noqa: PLC0415

    run, seen = Pipeline.run, []

    def once(self, chunk):
        seen.append(chunk)
        if len(seen) == 3:
            path.unlink()
        return run(self, chunk)

    monkeypatch.setattr(Pipeline, "run", once)

    code = predict(path, bundle, tmp_path)

    assert code in (2, 4)
    assert "a.mrc" in error_of(capsys)
    assert journal(tmp_path / "a_labels.mrc") == 2


def test_channels_are_counted(tmp_path, capsys):
    bundle = small_bundle(tmp_path / "toy", dims=2, context=1)
    config = bundle / "configs" / "inference.json"
    config.write_text(config.read_text().replace('"context": 1', '"context": 2'))
    path = write_volume(tmp_path / "a.tif", noise_volume(SHAPE))

    assert predict(path, bundle, tmp_path) in (2, 3)

    error_of(capsys)


def test_far_spacing_is_told_and_rescaled(bundle, tmp_path, caplog):
    volume = noise_volume((16, 20, 24), spacing=(0.2, 0.2, 0.2))
    path = write_volume(tmp_path / "a.tif", volume)

    assert predict(path, bundle, tmp_path / "as_is") == 0
    assert "pass --rescale" in worded(caplog.records[0].getMessage())
    assert predict(path, bundle, tmp_path / "fit", "--rescale") == 0

    fit = open_volume(tmp_path / "fit" / "a_labels.tif")
    as_is = open_volume(tmp_path / "as_is" / "a_labels.tif")
    assert fit.shape == as_is.shape == volume.shape
    assert fit.spacing.is_close(volume.spacing)
    assert (fit.read() != as_is.read()).any()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of half a MiB; only the system's owner may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    words = [mount or "mount", "-t", "tmpfs", "-o", "size=512k", "none", str(place)]
    if mount is None or subprocess.run(words, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(("suffix", "taken"), [(".tif", 400), (".ome.zarr", 460)])
def test_a_full_disk_is_told_and_finished_chunks_are_kept(
    bundle, tmp_path, capsys, small_disk, suffix, taken
):
    path = write_volume(tmp_path / "a.tif", noise_volume((48, 96, 96)))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(taken * 1024))

    code = predict(path, bundle, small_disk, "--format", suffix)

    labels = small_disk / f"a_labels{suffix}"
    assert code == 4
    assert "disk full" in error_of(capsys)
    assert not labels.exists()
    finished = journal(labels)
    assert finished > 0
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert predict(path, bundle, small_disk, "--format", suffix) == 0
    assert predict(path, bundle, tmp_path, "--format", suffix) == 0
    np.testing.assert_array_equal(
        open_volume(labels).read(), open_volume(tmp_path / labels.name).read()
    )


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ome.zarr", ".mrc"])
def test_kill_9_at_any_moment_and_run_again(tmp_path, suffix):
    bundle = small_bundle(tmp_path / "toy", core=64, halo=8)
    values = np.random.default_rng(0).integers(0, 200, (48, 832, 832), np.uint8)
    path = write_volume(tmp_path / "a.mrc", Volume(values, Spacing(0.1, 0.1, 0.1)))

    def words(out):
        start = [sys.executable, "-m", "cellseg3d", "predict", str(path)]
        return [*start, "--bundle", str(bundle), "--out", str(out), "--format", suffix]

    subprocess.run(words(tmp_path / "good"), check=True)
    out = tmp_path / "out"
    labels = out / f"a_labels{suffix}"
    kills = 0
    for wait in (1, 2, 3):
        process = subprocess.Popen(words(out))
        wait_for(work_folder(labels) / "journal.jsonl", wait, process)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        assert not labels.exists() or process.returncode == 0
    if not labels.exists():
        subprocess.run(words(out), check=True)

    assert kills >= 2
    np.testing.assert_array_equal(
        open_volume(labels).read(),
        open_volume(tmp_path / "good" / labels.name).read(),
    )
    assert not work_folder(labels).exists()


def wait_for(journal: Path, lines: int, process):
    """Wait until so many lines stand in a journal, or the process ends."""
    while process.poll() is None:
        found = journal.read_text().count("\n") if journal.exists() else 0
        if found >= lines:
            return
        time.sleep(0.01)


def test_a_result_without_its_uncertainty_is_refused_in_the_words_of_the_command(
    bundle, tmp_path, capsys
):
    path = write_volume(tmp_path / "a.tif", noise_volume(SHAPE))
    assert predict(path, bundle, tmp_path) == 0
    capsys.readouterr()

    code = predict(path, bundle, tmp_path, "--resume", "--uncertainty")

    found = error_of(capsys)
    assert code == 2
    assert "a_uncertainty.tif is missing beside it" in found
    assert "pass --overwrite without --resume" in found

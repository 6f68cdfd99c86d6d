"""The spine: files in, files out, the same answer however it is asked for."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import noise_volume, small_model, whole_pass

from cellseg3d.calibration.halo import calibrate_halo, verify_seams
from cellseg3d.core.errors import (
    AxisError,
    ConfigError,
    EnvironmentFault,
    NonFiniteError,
)
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, write_volume
from cellseg3d.prediction.batch import parse_bytes, tasks_of
from cellseg3d.prediction.budget import window_bytes
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.output.blockwise import sidecar, work_folder
from cellseg3d.prediction.scarce_memory import logits_in_scarce_memory
from cellseg3d.prediction.segment import segment, segment_to_file
from cellseg3d.prediction.setup import set_up
from cellseg3d.prediction.sources import STREAMED_PLANES


@pytest.fixture(params=["off", "auto"], ids=["plain", "accelerated"])
def exact(request):
    """Options that compute in float32: the plain network is the oracle of the fast."""
    return SegmentOptions(precision="float32", acceleration=request.param)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("dims", "context"), [(3, 0), (2, 0), (2, 2)])
def test_labels_are_those_of_one_pass(dims, context, classes, exact):
    model = small_model(dims, context, classes=classes, core=16, halo=32)
    volume = noise_volume((9, 30, 21), spacing=(0.3, 0.1, 0.1))

    found = segment(volume, model, exact)

    expected = whole_pass(model, volume).argmax(0)
    assert found.labels.spacing == volume.spacing
    assert found.labels.array.dtype == np.uint8
    np.testing.assert_array_equal(found.labels.array, expected)
    assert len(np.unique(expected)) > 1


@pytest.mark.parametrize(
    ("suffix", "acceleration"),
    [
        *((suffix, "auto") for suffix in (".ome.zarr", ".mrc", ".nii.gz", ".h5")),
        (".tif", "auto"),
        (".tif", "off"),
    ],
)
def test_a_file_holds_what_memory_would(tmp_path, suffix, acceleration):
    model = small_model(dims=2, context=1, axes="zx")
    volume = noise_volume((5, 18, 17))
    options = SegmentOptions(probs=True, uncertainty=True, acceleration=acceleration)
    expected = segment(volume, model, options)

    out = segment_to_file(volume, model, tmp_path / f"a_labels{suffix}", options)

    found = open_volume(out)
    np.testing.assert_array_equal(found.read(), expected.labels.array)
    assert found.spacing.is_close(volume.spacing)
    probs = open_volume(tmp_path / f"a_prob_class1{suffix}").read()
    # MRC would widen bytes, so that nobody knew what a share of 1 is.
    assert probs.dtype == ("float16" if suffix == ".mrc" else "uint8")
    one = 1 if suffix == ".mrc" else 255
    np.testing.assert_allclose(probs / one, expected.probs[1], atol=0.5 / 255 + 1e-6)
    assert open_volume(tmp_path / f"a_uncertainty{suffix}").read().max() > 0
    record = json.loads(sidecar(out).read_text())["segmentation"]
    assert record["models"][0]["sha256"] == model.sha256
    assert not work_folder(out).exists()


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    out = tmp_path / "a_labels.tif"
    out.write_bytes(b"precious")

    with pytest.raises(ConfigError, match=r"a_labels.tif: .* pass `overwrite`"):
        segment_to_file(noise_volume((4, 16, 16)), small_model(), out)

    assert out.read_bytes() == b"precious"


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from small_models import noise_volume, small_model
from cellseg3d.prediction.scarce_memory import logits_in_scarce_memory
from cellseg3d.prediction.segment import segment_to_file
from cellseg3d.prediction import pipeline
pipeline.CHUNK_VOXELS = 1
def stop(done, total):
    if done >= total // 2:
        os.kill(os.getpid(), 9)
segment_to_file(noise_volume((32, 40, 48)), small_model(core=16, halo=8),
                __import__("pathlib").Path({out!r}), progress=stop)
"""


@pytest.mark.parametrize("suffix", [".ome.zarr", ".tif"])
def test_a_killed_run_goes_on_where_it_was(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("cellseg3d.prediction.pipeline.CHUNK_VOXELS", 1)
    out = tmp_path / f"a_labels{suffix}"
    tests = str(Path(__file__).parents[2])
    script = KILLED.format(tests=tests, out=str(out))
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    journal = work_folder(out) / "journal.jsonl"
    before = len(journal.read_text().splitlines())
    seen = []

    segment_to_file(
        noise_volume((32, 40, 48)),
        small_model(core=16, halo=8),
        out,
        progress=lambda done, total: seen.append(done / total),
    )

    assert before > 3
    assert seen[0] > 0.5  # the first half was not done again
    expected = segment(noise_volume((32, 40, 48)), small_model(core=16, halo=8))
    np.testing.assert_array_equal(open_volume(out).read(), expected.labels.array)


def test_a_second_writer_is_refused(tmp_path):
    out = tmp_path / "a_labels.tif"
    volume, model = noise_volume((4, 16, 16)), small_model()

    def again(done, total):
        with pytest.raises(EnvironmentFault, match="another process"):
            segment_to_file(volume, model, out)

    segment_to_file(volume, model, out, progress=again)


def test_nan_is_named_with_its_place_and_finished_chunks_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("cellseg3d.prediction.pipeline.CHUNK_VOXELS", 1)
    volume = noise_volume((32, 16, 16))
    broken = np.array(volume.array)
    broken[30, 3, 4] = np.nan
    model = replace_scale(small_model(core=16, halo=4))

    with pytest.raises(NonFiniteError, match=r"z=30, y=3, x=4"):
        segment_to_file(volume.with_array(broken), model, tmp_path / "a.tif")

    lines = (work_folder(tmp_path / "a.tif") / "journal.jsonl").read_text()
    assert lines.count('"crc"') == 1


def replace_scale(model):
    """A scale that does not look at the voxels."""
    scale = type(model.intensity)("range", 0, 200)
    return replace(model, intensity=scale)


class Tight:
    """A network of slices that has memory for two of them at a time."""

    def __init__(self, most):
        self.most, self.batches = most, []

    def logits(self, read, window, keep, planes):
        for first in range(keep[0].start, keep[0].stop, planes):
            last = min(first + planes, keep[0].stop)
            self.batches.append(last - first)
            if last - first > self.most:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            yield first, read(first, last) * 2


def test_out_of_memory_halves_the_batch():
    image = torch.arange(6.0).reshape(1, 6, 1, 1).expand(1, 6, 2, 3)
    keep = (slice(1, 6), slice(0, 2), slice(0, 3))
    read = lambda low, high: image[:, low:high]  # noqa: E731
    tight = Tight(2)

    found = list(logits_in_scarce_memory(tight, read, (6, 2, 3), keep, 5))

    assert tight.batches == [5, 2, 2, 1]
    torch.testing.assert_close(
        torch.cat([part for _, part in found], 1), image[:, 1:] * 2
    )
    with pytest.raises(EnvironmentFault, match="smaller window"):
        list(logits_in_scarce_memory(Tight(0), read, (6, 2, 3), keep, 4))


def test_a_memory_limit_takes_fewer_planes_then_chunks_before_windows(monkeypatch):
    monkeypatch.setattr("cellseg3d.prediction.budget.resident_bytes", lambda: 0)
    model = small_model(core=32, halo=8, batch=4)
    volume = noise_volume((64, 64, 64))
    free = set_up(volume, [model], SegmentOptions())

    ample = set_up(volume, [model], SegmentOptions(max_ram=2**33))
    fewest = window_bytes(replace(free.sources[0], planes=STREAMED_PLANES[-1]))
    fewer = set_up(volume, [model], SegmentOptions(max_ram=int(fewest + 64**3)))
    tight = set_up(volume, [model], SegmentOptions(max_ram=int(fewest + 40**3 * 2)))

    assert ample.sources[0].lattice == free.sources[0].lattice
    assert free.sources[0].planes == STREAMED_PLANES[0]
    assert fewer.sources[0].planes == STREAMED_PLANES[-1]
    assert fewer.chunk == free.chunk
    assert tight.sources[0].lattice == free.sources[0].lattice
    assert np.prod(tight.chunk) < np.prod(free.chunk)
    with pytest.raises(EnvironmentFault, match="raise `max_ram`"):
        set_up(volume, [model], SegmentOptions(max_ram=2**10))


def test_several_models_of_other_classes_are_refused():
    with pytest.raises(ConfigError, match="differ"):
        segment(noise_volume((4, 16, 16)), [small_model(), small_model(classes=3)])


def test_a_network_of_other_channels_is_refused():
    model = small_model(dims=2, context=1)
    wrong = replace(model, spec=replace(model.spec, context=0))

    with pytest.raises(AxisError, match="channels"):
        segment(noise_volume((4, 16, 16)), wrong)


def test_far_spacing_is_told_and_rescaling_brings_labels_back(caplog):
    model = replace(small_model(core=16, halo=8), spacing_um=Spacing(0.2, 0.2, 0.2))
    volume = noise_volume((10, 24, 26), spacing=(0.2, 0.1, 0.1))

    segment(volume, model)
    found = segment(volume, model, SegmentOptions(rescale=True))

    assert "pass `rescale`" in caplog.records[0].getMessage()
    assert found.labels.shape == volume.shape
    labels = found.labels.array
    # Two voxels of the volume come of each voxel of the training's size.
    np.testing.assert_array_equal(labels[:, ::2, ::2], labels[:, 1::2, 1::2])


def test_skipping_empty_windows_leaves_the_rest_as_it_is(exact):
    values = np.full((32, 32, 32), 0.0, np.float32)
    values[:16] = np.random.default_rng(0).normal(100, 20, (16, 32, 32))
    volume = Volume(values)
    model = replace_scale(small_model(core=16, halo=8, empty_below=-0.9))

    every = segment(volume, model, exact).labels.array
    some = segment(volume, model, replace(exact, skip_empty=True)).labels.array

    np.testing.assert_array_equal(some[:16], every[:16])
    assert (some[16:] == 0).all()


def test_the_halo_is_as_wide_as_it_must_be_and_no_wider():
    model = small_model(core=16)
    volume = noise_volume((40, 40, 40))

    loose = calibrate_halo(model, [volume], 0.2)
    strict = calibrate_halo(model, [volume], 1e-5)

    assert max(loose["halo"]) < max(strict["halo"])
    assert strict["halo_error"] <= 1e-5
    seams = verify_seams(volume, replace(model, window=strict))
    assert seams[0].difference <= 1e-5
    rough = verify_seams(volume, replace(model, window={"core": 16, "halo": 0}))
    assert rough[0].difference > 1e-3


def test_a_halo_that_reads_the_whole_volume_is_not_called_measured():
    model, volume = small_model(core=16), noise_volume((8, 8, 8))

    with pytest.raises(ConfigError, match="at most 8 voxels a side have no seams"):
        calibrate_halo(model, [volume], 1e-12)
    with pytest.raises(ConfigError, match="no halo up to 0 voxels"):
        calibrate_halo(model, [volume], 1e-12, seconds=0)


@pytest.mark.parametrize(
    ("text", "number"), [("4G", 2**32), ("512M", 2**29), ("1.5 GiB", 3 * 2**29)]
)
def test_sizes_are_read(text, number):
    assert parse_bytes(text, "--max-ram") == number


@pytest.mark.parametrize("text", ["", "4X", "-1G", "..G"])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(ConfigError, match="--max-ram"):
        parse_bytes(text, "--max-ram")


def test_two_volumes_never_share_a_name(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_volume(tmp_path / folder / "cell.tif", noise_volume((2, 4, 4)))

    with pytest.raises(ConfigError, match="both be written to"):
        tasks_of([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "out")
    names = tasks_of([str(tmp_path / "a")], tmp_path / "out", ".ome.zarr")
    assert names[0].labels.name == "cell_labels.ome.zarr"


def test_dask_workers_give_the_same_bits_though_one_is_killed(tmp_path):
    distributed = pytest.importorskip("distributed")
    volume, model = noise_volume((32, 40, 48)), small_model(core=16, halo=8)
    write_volume(tmp_path / "v.ome.zarr", volume)
    lazy = open_volume(tmp_path / "v.ome.zarr")
    pids = []
    killed = []

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        with distributed.Client(cluster) as client:
            pids.extend(client.run(os.getpid).values())

        def kill_one(done, total):
            if not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)
                time.sleep(0.2)

        out = segment_to_file(
            lazy,
            model,
            tmp_path / "v_labels.ome.zarr",
            SegmentOptions(dask=cluster.scheduler_address),
            progress=kill_one,
        )

    assert killed
    expected = segment(lazy, model)
    np.testing.assert_array_equal(open_volume(out).read(), expected.labels.array)

"""Every time point of a file is predicted into one file that keeps the axis of time."""

import gc

import numpy as np
import pytest
import tifffile
import torch
import zarr
from small_bundle import small_bundle

from cellseg3d.bundle.model import load_model
from cellseg3d.cli.main import main
from cellseg3d.core.errors import InputError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.output.writing import write_times
from cellseg3d.io.registry import open_volume, write_labels
from cellseg3d.prediction import times
from cellseg3d.prediction.batch import Task
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment
from cellseg3d.prediction.times import segment_times

SHAPE = (6, 24, 20)
SPACING = Spacing(0.1, 0.1, 0.1)
OPTIONS = SegmentOptions(precision="float32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture
def points():
    values = np.random.default_rng(1).normal(100, 20, (3, *SHAPE))
    return values.clip(0, 255).astype(np.uint8)


def expected_of(points, bundle):
    model = load_model(bundle)
    return [
        segment(Volume(point, SPACING), model, OPTIONS).labels.read()
        for point in points
    ]


def words(source, bundle, out, *more):
    fixed = ["--bundle", str(bundle), "--out", str(out), "--precision", "float32"]
    return ["predict", str(source), *fixed, *more]


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr", ".h5", ".nii.gz"])
def test_all_time_points_get_their_labels(tmp_path, bundle, points, suffix):
    volumes = [Volume(point, SPACING) for point in points]
    source = write_times(tmp_path / f"cell{suffix}", volumes, labels=False)
    out = tmp_path / "out"

    assert main(words(source, bundle, out, "--time", "all", "--probs", "uint8")) == 0

    expected = expected_of(points, bundle)
    for number, labels in enumerate(expected):
        found = open_volume(out / f"cell_labels{suffix}", time=number)
        np.testing.assert_array_equal(found.read(), labels)
        assert found.spacing.is_close(SPACING, 1e-5)
        cell = open_volume(out / f"cell_prob_cell{suffix}", time=number).read()
        np.testing.assert_array_equal(cell[labels == 1] >= 127, True)
    assert found.provenance["times"] == 3
    assert len(np.unique(expected)) == 2
    assert not list(out.glob("*.times"))


def test_a_time_series_of_several_channels_takes_the_one_named(
    tmp_path, bundle, points
):
    stacks = np.stack([points + 1, points], axis=1)
    source = tmp_path / "cell.ome.zarr"
    group = zarr.open_group(source, mode="w", zarr_format=3)
    group.create_array("0", data=stacks, chunks=(1, 1, 3, 16, 16))
    kinds = {"t": "time", "c": "channel"}
    image = {
        "axes": [
            {"name": each, "type": kinds.get(each, "space"), "unit": "micrometer"}
            for each in "tczyx"
        ],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1, 1, *SPACING.zyx]}
                ],
            }
        ],
    }
    names = {"channels": [{"label": "blank"}, {"label": "DAPI"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image], "omero": names}
    more = ["--time", "all", "--channel", "DAPI", "--format", ".ome.tif"]

    assert main(words(source, bundle, tmp_path / "out", *more)) == 0

    with tifffile.TiffFile(tmp_path / "out" / "cell_labels.ome.tif") as found:
        assert found.series[0].axes == "TZYX"
        np.testing.assert_array_equal(found.asarray(), expected_of(points, bundle))


def test_one_time_point_has_its_number_in_the_name(tmp_path, bundle, points):
    source = tmp_path / "cell.tif"
    tifffile.imwrite(source, points, imagej=True, metadata={"axes": "TZYX"})
    more = ["--time", "1", "--spacing-um", "0.1", "0.1", "0.1"]

    assert main(words(source, bundle, tmp_path / "out", *more)) == 0

    found = open_volume(tmp_path / "out" / "cell_t1_labels.tif").read()
    np.testing.assert_array_equal(found, expected_of(points, bundle)[1])


def test_slices_over_time_are_time_points(tmp_path, bundle, points):
    source = tmp_path / "cell.tif"
    tifffile.imwrite(source, points[:, 0], imagej=True, metadata={"axes": "TYX"})
    more = ["--time", "all", "--spacing-um", "0.1", "0.1", "0.1"]

    assert main(words(source, bundle, tmp_path / "out", *more)) == 0

    expected = expected_of(points[:, :1], bundle)
    found = tifffile.imread(tmp_path / "out" / "cell_labels.tif")
    np.testing.assert_array_equal(found, np.squeeze(expected))


def test_a_stopped_series_goes_on_with_the_point_that_was_begun(
    tmp_path, bundle, points, monkeypatch
):
    volumes = [Volume(point, SPACING) for point in points]
    source = write_times(tmp_path / "cell.h5", volumes, labels=False)
    task, model = Task(str(source), tmp_path / "cell_labels.h5"), load_model(bundle)
    real, done = times.segment_task, []

    def stopping(part, models, options, told, **more):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(told["time"])
        return real(part, models, options, told, **more)

    monkeypatch.setattr(times, "segment_task", stopping)
    with pytest.raises(KeyboardInterrupt):
        segment_times(task, [model], OPTIONS)
    assert (tmp_path / "cell_labels.h5.times").is_dir()
    monkeypatch.setattr(
        times,
        "segment_task",
        lambda part, models, options, told, **more: (
            done.append(told["time"]),
            real(part, models, options, told, **more),
        )[1],
    )

    report = segment_times(task, [model], OPTIONS)

    assert done == [0, 1, 2]
    assert report["times"] == 3
    found = [open_volume(task.labels, time=number).read() for number in range(3)]
    np.testing.assert_array_equal(found, expected_of(points, bundle))


def test_a_series_that_changed_in_the_meantime_is_refused(tmp_path, bundle, points):
    volumes = [Volume(point, SPACING) for point in points]
    source = write_times(tmp_path / "cell.h5", volumes, labels=False)
    task, model = Task(str(source), tmp_path / "cell_labels.h5"), load_model(bundle)
    with pytest.raises(KeyboardInterrupt):
        segment_times(task, [model], OPTIONS, progress=_stop_in_the_second)
    write_times(source, volumes[::-1], labels=False)

    with pytest.raises(InputError, match="was changed"):
        segment_times(task, [model], OPTIONS)


def _stop_in_the_second(done, total):
    if done > total / 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("axes", "more", "said"),
    [
        ("ZYX", [], "has no axis of time; leave out --time"),
        ("TZYX", ["--format", ".mrc"], "holds one volume, not 3 time"),
    ],
)
def test_what_cannot_be_a_series_is_refused(
    tmp_path, bundle, points, capsys, axes, more, said
):
    source = tmp_path / "cell.tif"
    array = points if axes == "TZYX" else points[0]
    tifffile.imwrite(source, array, imagej=True, metadata={"axes": axes})
    more = [*more, "--time", "all", "--spacing-um", "0.1", "0.1", "0.1"]

    assert main(words(source, bundle, tmp_path / "out", *more)) != 0

    assert said in capsys.readouterr().err


def test_objects_are_numbered_in_each_time_point(tmp_path, bundle, points):
    volumes = [Volume(point, SPACING) for point in points]
    source = write_times(tmp_path / "cell.ome.zarr", volumes, labels=False)

    assert main(words(source, bundle, tmp_path, "--time", "all", "--objects")) == 0

    for number in range(3):
        labels = open_volume(tmp_path / "cell_labels.ome.zarr", time=number).read()
        ids = open_volume(tmp_path / "cell_objects.ome.zarr", time=number).read()
        assert ids.max() > 1
        assert not ids[labels == 0].any()
    words_again = words(source, bundle, tmp_path, "--time", "all", "--objects")
    assert main([*words_again, "--resume"]) == 0
    assert main([*words_again, "--overwrite"]) == 0


@pytest.mark.parametrize("verb", ["objects", "measure", "evaluate"])
def test_other_verbs_name_the_way_out(tmp_path, verb, points, capsys):
    labels = [Volume((point > 100).astype(np.uint8), SPACING) for point in points]
    series = write_times(tmp_path / "cell_labels.tif", labels, labels=True)
    truth = write_labels(tmp_path / "truth.tif", labels[0])
    call = {
        "objects": ["objects", str(series), "--out", str(tmp_path / "ids.tif")],
        "measure": ["measure", str(series)],
        "evaluate": ["evaluate", str(series), str(truth)],
    }[verb]

    assert main(call) == 2

    said = capsys.readouterr().err
    assert "3 time points" in said
    assert "cellseg3d convert --time" in said


def test_no_network_of_a_finished_time_point_stays_in_memory(
    tmp_path, bundle, points, monkeypatch
):
    volumes = [Volume(point, SPACING) for point in points]
    source = write_times(tmp_path / "cell.h5", volumes, labels=False)
    task, model = Task(str(source), tmp_path / "cell_labels.h5"), load_model(bundle)
    real, kept = times.segment_task, []

    def counting(*given, **more):
        report = real(*given, **more)
        kept.append(sum(issubclass(type(e), torch.nn.Module) for e in gc.get_objects()))
        return report

    monkeypatch.setattr(times, "segment_task", counting)
    gc.disable()
    try:
        segment_times(task, [model], SegmentOptions(device="cpu"))
    finally:
        gc.enable()

    assert len(kept) == 3
    assert kept[2] == kept[0]

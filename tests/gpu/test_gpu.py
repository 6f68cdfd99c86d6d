"""On a CUDA GPU: the labels of a CPU, within the memory allowed, and trainings.

``make gpu`` runs these. Everywhere else they are skipped, never faked.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import label
from small_models import noise_volume, small_model

import cellseg3d
from cellseg3d.core.errors import EnvironmentFault
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment, segment_to_file
from cellseg3d.runs.options import TrainOptions
from cellseg3d.training.train import resume, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
# The part of the labels that the default may change, against float32 on a CPU.
ALLOWED = 1e-4
ON_GPU = SegmentOptions(device="cuda", precision="float32")
ON_CPU = SegmentOptions(device="cpu", precision="float32")
EXACT = SegmentOptions(device="cpu", precision="float32", acceleration="off")


def smooth_volume(shape=(72, 100, 116), seed=0):
    volume = noise_volume(shape, seed)
    wave = np.sin(np.arange(volume.array.size).reshape(shape) / 977) * 30
    volume.array[...] = volume.array * 0.3 + 70 + wave.astype(np.float32)
    return volume


def connected(found):
    return label((found.labels.array == 1).squeeze())[0]


def changed(one, other):
    return float(np.mean(one.labels.array != other.labels.array))


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (small_model(), {}),
        (small_model(name="basic_unet", classes=3), {}),
        (small_model(dims=2), {}),
        (small_model(dims=2, context=1), {}),
        (small_model(dims=2, context=2), {"axes": "zyx"}),
        (small_model(), {"tta": True}),
        (small_model(norm="instance"), {}),
    ],
    ids=["3d", "3d basic", "2d", "2.5d", "three axes", "copies", "blended"],
)
def test_float32_labels_are_those_of_the_cpu(model, options):
    volume = smooth_volume()

    here = segment(volume, model, replace(ON_GPU, **options))
    there = segment(volume, model, replace(ON_CPU, **options))

    # Random networks decide many voxels by a hair, and a GPU multiplies in tf32.
    assert changed(here, there) < 2e-3


@pytest.mark.parametrize("fuse", ["mean", "product", "vote", "maximum"])
def test_two_networks_are_fused_as_on_the_cpu(fuse):
    volume = smooth_volume((40, 64, 72))
    models = [small_model(seed=1), small_model(dims=2, context=1, seed=2)]
    both = {"fuse": fuse, "precision": "float32", "probs": True, "uncertainty": True}

    here = segment(volume, models, SegmentOptions(device="cuda", **both))
    there = segment(volume, models, SegmentOptions(device="cpu", **both))

    assert changed(here, there) < 2e-3
    # A vote that turns by a hair moves a voxel's shares far.
    for one, other in (
        (here.probs, there.probs),
        (here.uncertainty, there.uncertainty),
    ):
        assert np.mean(np.abs(one - other) > 0.02) < 2e-3


def test_shipped_weights_label_a_cell_as_on_the_cpu():
    model = cellseg3d.load_model("cell_tomo_unet3d")
    cell = cellseg3d.simulate_case(96, seed=41)

    here = segment(cell.tomogram, model, SegmentOptions(device="cuda"))
    there = segment(cell.tomogram, model, EXACT)

    assert changed(here, there) <= ALLOWED
    found = here.provenance["sources"][0]
    assert found["device"].startswith("cuda")
    assert found["precision"] in ("float16", "float32")


def test_objects_of_a_gpu_are_those_of_a_cpu():
    model = cellseg3d.load_model("nuclei_unet2d")
    rng = np.random.default_rng(3)
    image = rng.normal(10, 2, (1, 256, 256)).astype(np.float32)
    yy, xx = np.mgrid[:256, :256]
    for y, x in rng.uniform(20, 236, (12, 2)):
        image[0] += 60 * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 120)

    found = [
        int(connected(cellseg3d.segment(image, model, options=options)).max())
        for options in (SegmentOptions(device="cuda"), EXACT)
    ]

    assert found[0] == found[1] > 4


def test_a_file_comes_out_within_the_memory_of_the_gpu(tmp_path):
    volume = smooth_volume((160, 160, 160))
    limit = 64 * 2**20
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()

    out = segment_to_file(
        volume,
        small_model(),
        tmp_path / "labels.tif",
        replace(ON_GPU, max_vram=limit),
    )

    wide = segment(volume, small_model(), ON_GPU)
    peak = torch.cuda.max_memory_allocated() - before
    assert np.mean(cellseg3d.read_labels(out).array != wide.labels.array) < 2e-3
    assert peak > limit  # of the second, which was allowed more
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    segment(
        volume,
        small_model(),
        replace(ON_GPU, max_vram=limit),
    )
    assert torch.cuda.max_memory_allocated() - before <= 1.25 * limit


def test_a_window_that_does_not_fit_is_run_in_parts():
    model = small_model(dims=2)
    volume = smooth_volume((64, 512, 512))
    expected = segment(volume, model, ON_GPU)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.2 * 2**30 / total)
    try:
        found = segment(volume, model, ON_GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert changed(found, expected) < 1e-4


@pytest.mark.parametrize("dims", [2, 3])
def test_a_training_learns_stops_and_goes_on(tmp_path, dims):
    cells = cellseg3d.simulate_dataset(tmp_path / "cells", 3, 32)
    settings = {
        "train::dataset::samples": 24,
        "train::dataloader::batch_size": 4,
        "spec::patch_shape": [32] * dims,
        "val_interval": 100,
    }
    options = {"progress": False, "device": "cuda", "calibrate": False}
    train(
        f"cell_tomo_unet{dims}d",
        cells,
        tmp_path / "run",
        TrainOptions(epochs=4, settings=settings, **options),
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    resume(tmp_path / "run", TrainOptions(epochs=6, progress=False, calibrate=False))

    again = json.loads((tmp_path / "run" / "run.json").read_text())
    losses = [row["loss"] for row in again["history"] if "loss" in row]
    assert record["state"] == again["state"] == "completed"
    assert record["machine"]["gpu"]
    assert (record["iteration"], again["iteration"]) == (24, 36)
    assert losses[-1] < losses[0]


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(EnvironmentFault, match="the last CUDA GPU here is"):
        segment(
            smooth_volume((16, 16, 16)), small_model(), SegmentOptions(device="cuda:99")
        )

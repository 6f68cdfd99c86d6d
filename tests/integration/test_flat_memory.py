"""Memory does not grow with the volume: one four times as long takes no more."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cellseg3d.io.registry import open_volume

SIDE, LENGTH, TIMES = 128, 1280, 4
# What is kept of 60 MiB more voxels, at most. Measured: 5 MiB either way, 28 MiB with
# OME-Zarr, whose buffers split the heap until about here.
MOST_MIB = 40
PREDICT = """
import sys
from pathlib import Path

import numpy as np
import torch
from small_models import SmallModel
from threshold_network import Threshold

from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment_to_file
from cellseg3d.io.lazy import LazyArray


def mib(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024


def stripes(box):
    z, y, x = (np.arange(one.start, one.stop).astype(np.uint8) for one in box)
    return (z[:, None, None] ^ y[:, None] ^ x) & 32


out, (length, side) = Path(sys.argv[1]), map(int, sys.argv[2:])
lazy = LazyArray((length, side, side), np.dtype(np.uint8), stripes)
model = SmallModel(
    Threshold(0.0).eval(),
    InputSpec(3, (64, 64, 64)),
    ("background", "stripe"),
    {"core": 64, "halo": 8, "batch": 1},
    IntensityScale("range", 0, 32),
)
options = SegmentOptions(device="cpu", precision="float32")
Path("/proc/self/clear_refs").write_text("5")
before = mib("VmRSS")
segment_to_file(Volume(lazy, Spacing(0.1, 0.1, 0.1)), model, out, options)
print(mib("VmHWM") - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is read from /proc"
)
@pytest.mark.parametrize(
    "suffix",
    [
        ".tif",
        pytest.param(".mrc", marks=pytest.mark.slow),
        pytest.param(".ome.zarr", marks=pytest.mark.slow),
    ],
)
def test_a_volume_four_times_as_long_takes_no_more_memory(suffix, tmp_path):
    short, long = (tmp_path / f"{name}{suffix}" for name in ("short", "long"))

    before = peak_mib(short, LENGTH)
    after = peak_mib(long, TIMES * LENGTH)

    assert before > 8  # A chunk alone holds 8 MiB of labels.
    assert after - before < MOST_MIB
    far = open_volume(long).array[-70:, :20]
    z, y, x = np.ogrid[TIMES * LENGTH - 70 : TIMES * LENGTH, :20, :SIDE]
    np.testing.assert_array_equal(far, (z ^ y ^ x) & 32 > 0)


def peak_mib(out, length):
    """Predict a generated volume; return the peak above what is there after imports."""
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), *sys.path])
    words = [str(out), str(length), str(SIDE)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREDICT, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)

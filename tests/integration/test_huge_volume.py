"""A volume far larger than memory, within a stated address space."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from small_bundle import small_bundle

from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.io.registry import create_volume, open_volume

SIDE = int(os.environ.get("CELLSEG3D_HUGE_SIDE", "2048"))
LIMIT = 8 * 2**30
SHARD = 256


@pytest.mark.slow
def test_a_volume_far_larger_than_memory_runs_within_8_gib(tmp_path):
    """2048^3 voxels, made lazily, written as OME-Zarr, under ``ulimit -v`` 8 GiB."""
    bundle = small_bundle(tmp_path / "toy", channels=(4, 8), halo=16)
    source = make_volume(tmp_path / "huge.ome.zarr")
    words = [sys.executable, "-m", "cellseg3d", "predict", str(source)]
    words += ["--bundle", str(bundle), "--out", str(tmp_path), "--max-ram", "2G"]

    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))

    done = subprocess.run(words, preexec_fn=limited, check=False)

    assert done.returncode == 0
    labels = open_volume(tmp_path / "huge_labels.ome.zarr")
    assert labels.shape == (SIDE,) * 3
    # The pattern repeats, and so do the labels wherever windows lie alike.
    inner = Roi.at((SHARD, SHARD, SHARD), (64, 64, 64))
    far = Roi.at((SIDE - 2 * SHARD,) * 3, (64, 64, 64))
    one, other = labels.read(inner), labels.read(far)
    assert set(np.unique(one)) == {0, 1}
    np.testing.assert_array_equal(one, other)


def make_volume(path):
    """Write a pattern of balls, region by region."""
    axis = np.arange(SHARD) % 64 - 32
    distance = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    part = np.where(distance < 400, 180, 20).astype(np.uint8)
    shape = (SIDE,) * 3
    spacing = Spacing(0.1, 0.1, 0.1)
    with create_volume(
        path, shape, part.dtype, spacing=spacing, chunk=part.shape
    ) as writer:
        for roi in blocks(shape, SHARD):
            writer.write(roi, part[tuple(slice(n) for n in roi.shape)])
    return path

"""Objects of a volume that worker processes segment: the same labels, the same ids."""

from functools import partial

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from small_bundle import small_bundle

from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, write_volume
from cellseg3d.objects.label import label_objects
from cellseg3d.prediction.pipeline import Pipeline

NAMES = ("labels", "objects", "prob_background", "prob_cell")


@pytest.fixture
def words(tmp_path):
    """The command line for a volume of lumps, which a small bundle segments."""
    pytest.importorskip("distributed")
    bundle = small_bundle(tmp_path / "toy", core=16, halo=8)
    noise = gaussian_filter(np.random.default_rng(0).normal(0, 1, (40, 48, 56)), 3)
    image = (100 + 20 * noise / noise.std()).astype(np.float32)
    write_volume(tmp_path / "v.ome.zarr", Volume(image, Spacing(0.1, 0.1, 0.1)))
    return ["predict", str(tmp_path / "v.ome.zarr"), "--bundle", str(bundle)]


@pytest.mark.parametrize(
    "suffix", [".ome.zarr", pytest.param(".tif", marks=pytest.mark.slow)]
)
def test_objects_are_the_same_on_worker_processes(
    words, suffix, tmp_path, capsys, monkeypatch
):
    words += ["--objects", "--format", suffix]
    here = main([*words, "--out", str(tmp_path / "here")])
    # Many small tasks, of which this process does none itself.
    monkeypatch.setattr("cellseg3d.prediction.pipeline.CHUNK_VOXELS", 16**3)
    many = partial(label_objects, block=17)
    monkeypatch.setattr("cellseg3d.prediction.batch.label_objects", many)
    monkeypatch.delattr(Pipeline, "run")

    far = main([*words, "--out", str(tmp_path / "far"), "--dask", "local:2"])

    assert here == far == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "objects," in line]
    assert len({line.partition(":")[2] for line in said}) == 1
    for name in NAMES:
        one, other = (
            open_volume(tmp_path / out / f"v_{name}{suffix}").read()
            for out in ("here", "far")
        )
        assert len(np.unique(one)) > (20 if name == "objects" else 1)
        assert other.dtype == one.dtype
        np.testing.assert_array_equal(other, one)

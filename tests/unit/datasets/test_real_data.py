"""Folders of real volumes, as they lie on disk, without a datalist."""

import os
from pathlib import Path

import numpy as np
import pytest

from cellseg3d.datasets.volumes import load_fold
from cellseg3d.samples.loaders import SampleDataset

ROOT = os.environ.get("CELLSEG3D_DATA")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not ROOT, reason="CELLSEG3D_DATA is not set"),
]


@pytest.mark.parametrize(
    ("name", "cases", "classes", "shape"),
    [
        ("vnc_sstem", 3, 5, (20, 512, 512)),
        ("cdeep3m_mito", 3, 2, (20, 512, 512)),
        ("ovule_nuclei", 2, 2, (100, 100, 100)),
        ("fib25_neurons", 2, 2, (80, 250, 250)),
        ("gowt1_mes_2d", 3, 2, (1, 1024, 1024)),
    ],
)
def test_a_folder_trains_as_it_is(name, cases, classes, shape):
    loaded = load_fold(Path(ROOT) / name, 0)

    assert len(loaded.training) == cases - 1
    assert len(loaded.validation) == 1
    assert len(loaded.datalist.classes) == classes
    for case in loaded.training + loaded.validation:
        assert case.image.shape == case.label.shape == shape
        assert case.label.max() == classes - 1
        scaled = case.scale.apply(case.image, case.offset, case.factor)
        low, high = np.percentile(scaled, [0.5, 99.5])
        assert (low, high) == pytest.approx((-1, 1), abs=0.1)
    spec = {"spatial_dims": 2, "patch_shape": (96, 96)}
    items = list(SampleDataset(loaded.training, spec, 40, foreground=1.0))
    middles = [int(item["label"][0, 48, 48]) for item in items]
    assert max(middles) == classes - 1


def test_dsb2018_pairs_a_hundred_images():
    loaded = load_fold(Path(ROOT) / "dsb2018", 0, folds=5)

    assert (len(loaded.training), len(loaded.validation)) == (80, 20)
    assert all(0 < case.label.mean() < 0.95 for case in loaded.training)

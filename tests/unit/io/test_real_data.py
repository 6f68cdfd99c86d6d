"""The labelled volumes of real microscopes, read with their documented facts."""

import os
from pathlib import Path

import numpy as np
import pytest

from cellseg3d.core.spacing import Spacing
from cellseg3d.io.check import check_volume
from cellseg3d.io.registry import read_labels, read_volume

DATA = os.environ.get("CELLSEG3D_DATA")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA, reason="CELLSEG3D_DATA is not set"),
]


@pytest.mark.parametrize(
    ("name", "shape", "values"),
    [
        ("cdeep3m_mito/z010-029_TL_label.tif", (20, 512, 512), [0, 1]),
        ("vnc_sstem/BL_label.tif", (20, 512, 512), [0, 1, 2, 3, 4]),
        ("qcanet_embryo/8_cell_stage_label.tif", (51, 120, 122), list(range(9))),
        ("gowt1_mes_2d/t21_label.tif", (1, 1024, 1024), list(range(25))),
        (
            "labels_only/hela_cell/hela_roi_5class_40x40x50nm.nii.gz",
            (300, 500, 500),
            [0, 1, 2, 3, 4],
        ),
    ],
)
def test_label_volumes_hold_the_documented_values(name, shape, values):
    findings = check_volume(Path(DATA) / name)

    assert findings.volume.shape == shape
    assert sorted(findings.label_counts) == values
    assert sum(findings.label_counts.values()) == np.prod(shape)


@pytest.mark.parametrize(("name", "ids"), [("1135", 54), ("1136", 32)])
def test_the_hdf5_pairs_hold_image_and_label(name, ids):
    path = Path(DATA) / "ovule_nuclei" / f"{name}_mini.h5"

    image, label = read_volume(f"{path}::raw"), read_labels(f"{path}::label")

    assert image.shape == label.shape == (100, 100, 100)
    assert image.spacing.is_close(Spacing(0.283718, 0.127, 0.127), 5e-3)
    assert np.unique(label.array).size == ids + 1


def test_hela_spacing_is_the_documented_one():
    path = Path(DATA) / "labels_only/hela_cell/hela_roi_5class_40x40x50nm.nii.gz"

    assert read_labels(path).spacing.is_close(Spacing(0.05, 0.04, 0.04), 1e-5)


def test_a_nonsense_spacing_is_doubted():
    path = Path(DATA) / "labels_only/urocell/fib1-0-0-0_lyso_binary.nii.gz"

    assert "implausible" in check_volume(path).warnings[0]


def test_instances_of_the_neurons_are_exact():
    labels = read_labels(Path(DATA) / "fib25_neurons/z000-079_label.tif")

    assert labels.dtype == np.uint8  # 188 ids, stored as uint16
    assert labels.array.max() == 188

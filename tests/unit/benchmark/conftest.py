"""A tiny data set on disk: balls of known places, with a voxel size."""

import numpy as np
import pytest

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import write_datalist
from cellseg3d.io.registry import write_labels, write_volume

SPACING = Spacing(0.2, 0.1, 0.1)
NAMES = ("a", "b", "c")


@pytest.fixture
def ball_labels():
    """Two balls of radius 3, apart, ids 1 and 2."""
    z, y, x = np.ogrid[:16, :24, :24]
    labels = np.zeros((16, 24, 24), np.uint8)
    for number, middle in enumerate([(8, 6, 6), (8, 16, 16)], start=1):
        square = sum((a - m) ** 2 for a, m in zip((z, y, x), middle, strict=True))
        labels[square <= 9] = number
    return labels


@pytest.fixture
def datalist_path(tmp_path, ball_labels):
    rng = np.random.default_rng(0)
    cases = []
    for name in NAMES:
        image = rng.normal(ball_labels > 0, 0.1).astype(np.float32)
        image_path, label_path = tmp_path / f"{name}.tif", tmp_path / f"{name}_l.tif"
        write_volume(image_path, Volume(image, SPACING))
        write_labels(label_path, Volume((ball_labels > 0).astype(np.uint8), SPACING))
        cases.append(Case(name, str(image_path), str(label_path), group=name))
    path = tmp_path / "list.json"
    write_datalist(Datalist("balls", ("background", "ball"), None, tuple(cases)), path)
    return path


@pytest.fixture
def study_path(tmp_path, datalist_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        f"""
name: Balls
question: Which one?
minutes: 0.01
seeds: [0, 1]
datasets:
  - {{name: balls, datalist: {datalist_path.name}, target: ball, tests: [a, [b, c]]}}
methods:
  - {{name: 2D, bundle: cell_tomo_unet2d}}
  - {{name: 2.5D, bundle: cell_tomo_unet25d, set: {{"spec::context": 1}}}}
  - {{name: fused, of: 2D, axes: zyx}}
""",
        encoding="utf-8",
    )
    return path

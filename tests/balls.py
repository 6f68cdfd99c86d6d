"""A data set of balls in balls, and runs on it that take under a second."""

import json
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    # Ignite and TensorBoard, once imported, say no more; torch 2.13 deprecates what
    # they use of it.
    warnings.simplefilter("ignore")
    import ignite.engine  # noqa: F401
    import monai.engines  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume

SPACING = Spacing(0.05, 0.05, 0.05)


def write_balls(folder, cases=3, side=24, seed=0):
    """Write volumes with a ball of class 1 around a ball of class 2."""
    random = np.random.default_rng(seed)
    grid = np.mgrid[:side, :side, :side]
    rows = []
    for number in range(cases):
        centre = random.uniform(0.4 * side, 0.6 * side, (3, 1, 1, 1))
        radius = np.sqrt(((grid - centre) ** 2).sum(0))
        label = (radius < 0.35 * side).astype(np.uint8)
        label[radius < 0.2 * side] = 2
        image = label + random.normal(0, 0.2, label.shape)
        provenance = {"path": f"ball{number}"}
        write_volume(
            folder / f"ball{number}.mrc",
            Volume(image.astype(np.float32), SPACING, provenance=provenance),
        )
        write_labels(folder / f"ball{number}_label.tif", Volume(label, SPACING))
        rows.append(
            {
                "name": f"ball{number}",
                "image": f"ball{number}.mrc",
                "label": f"ball{number}_label.tif",
                "group": f"specimen{number}",
            }
        )
    values = {"name": "balls", "classes": ["background", "shell", "core"]}
    path = folder / "datalist.json"
    path.write_text(json.dumps({**values, "cases": rows}))
    return path


@pytest.fixture(scope="session")
def balls(tmp_path_factory):
    """The datalist of three volumes of 24^3."""
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture(scope="session")
def larger(tmp_path_factory):
    """The datalist of two volumes of 48^3: wide enough to show seams."""
    return write_balls(tmp_path_factory.mktemp("larger"), cases=2, side=48)

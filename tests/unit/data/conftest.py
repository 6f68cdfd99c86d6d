"""Small volumes whose voxels say where they lie."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg3d.data.intensity import IntensityScale
from cellseg3d.data.volumes import LoadedCase

# (raw - 0) / 3e5: keeps coded values apart and within the clip.
CODE = IntensityScale("range", -3e5, 3e5)


def coded(shape):
    """Return float32 voxels that hold 10000 z + 100 y + x."""
    z, y, x = np.ogrid[tuple(slice(0, size) for size in shape)]
    return (10000 * z + 100 * y + x).astype(np.float32)


def decoded(image):
    """Return the codes that a scaled image holds, as integers."""
    return np.rint(np.asarray(image, np.float64) * 3e5).astype(int)


@pytest.fixture
def make_case():
    def make(image, label, name="case", scale=CODE, annotated=None):
        offset, factor = 0.0, 1 / 3e5
        return LoadedCase(
            name, image, label, scale, offset, factor, None, name, (), annotated
        )

    return make


@pytest.fixture
def write_pair(tmp_path):
    """Write a TIFF pair into a folder; return their paths."""

    def write(stem, image, label, folder=None):
        place = Path(folder or tmp_path)
        place.mkdir(parents=True, exist_ok=True)
        paths = (place / f"{stem}_image.tif", place / f"{stem}_label.tif")
        for path, array in zip(paths, (image, label), strict=True):
            if array is not None:
                tifffile.imwrite(path, array, photometric="minisblack")
        return paths

    return write


@pytest.fixture
def write_list(tmp_path):
    """Write a datalist beside the pairs; return its path."""

    def write(cases, classes=("background", "cell"), **more):
        path = tmp_path / "datalist.json"
        values = {"classes": list(classes), "cases": cases, **more}
        path.write_text(json.dumps(values))
        return path

    return write

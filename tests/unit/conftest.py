"""Cases in memory and data sets on disk."""

import json
from pathlib import Path

import pytest
import tifffile
from coded_volumes import CODE

from cellseg3d.datasets.volumes import LoadedCase


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

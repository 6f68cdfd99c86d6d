"""`predict --resume` compares how a volume is read with how its labels were made."""

import json

import numpy as np
import pytest
import tifffile
from small_bundle import small_bundle

from cellseg3d.cli.main import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("one") / "toy")


@pytest.fixture
def cell(tmp_path):
    file = tmp_path / "cell.tif"
    values = np.random.default_rng(0).integers(0, 255, (6, 24, 20), np.uint8)
    tifffile.imwrite(file, values, photometric="minisblack")
    return file


def predict(place, bundle, *more):
    words = ["predict", str(place), "--bundle", str(bundle), "--out"]
    words += [str(place.parent / "out"), "--format", ".tif", "--device", "cpu"]
    return main([*words, *more])


def test_labels_made_with_other_voxel_edges_are_refused(cell, bundle, capsys):
    edges = ("--spacing-um", "0.2", "0.1", "0.1")
    assert predict(cell, bundle, *edges) == 0
    record = cell.parent / "out" / "cell_labels.json"
    made = json.loads(record.read_text())["segmentation"]

    assert made["spacing_um"] == [0.2, 0.1, 0.1]
    assert made["read_as"] is None
    assert predict(cell, bundle, *edges, "--resume") == 0
    capsys.readouterr()
    assert predict(cell, bundle, "--spacing-um", "0.4", "0.1", "0.1", "--resume") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "with voxel edges of 0.2 x 0.1 x 0.1 um, not 0.4 x 0.1 x 0.1 um" in said
    assert "pass --overwrite without --resume" in said


def test_labels_of_axes_that_were_read_otherwise_are_refused(cell, bundle, capsys):
    edges = ("--spacing-um", "0.2", "0.1", "0.1")
    assert predict(cell, bundle, *edges) == 0
    capsys.readouterr()

    assert predict(cell, bundle, *edges, "--as", "xyz", "--resume") == 2

    said = " ".join(capsys.readouterr().err.split())
    assert "with axes read as the file says, not xyz" in said


def test_labels_of_before_are_taken_as_they_are(cell, bundle):
    edges = ("--spacing-um", "0.2", "0.1", "0.1")
    assert predict(cell, bundle, *edges) == 0
    file = cell.parent / "out" / "cell_labels.json"
    record = json.loads(file.read_text())
    for key in ("read_as", "spacing_um"):
        del record["segmentation"][key]
    file.write_text(json.dumps(record))

    assert predict(cell, bundle, "--spacing-um", "1", "1", "1", "--resume") == 0

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellseg3d.cli.main import main


@pytest.fixture
def volumes(tmp_path):
    """Two pairs: a bright square on a dark ground."""
    folder = tmp_path / "volumes"
    folder.mkdir()
    label = np.zeros((5, 40, 40), np.uint8)
    label[:, 10:30, 12:26] = 1
    for stem, level in (("a", 180), ("b", 200)):
        image = label * np.uint8(level) + 20
        tifffile.imwrite(folder / f"{stem}_image.tif", image)
        tifffile.imwrite(folder / f"{stem}_label.tif", label)
    return folder


def outline_pixels(path):
    picture = np.asarray(Image.open(path))
    return int((picture == (230, 159, 0)).all(axis=2).sum())


def test_a_folder_is_previewed(volumes, tmp_path, capsys):
    png = tmp_path / "p.png"

    code = main(["preview", str(volumes), "--png", str(png), "--samples", "3"])

    assert code == 0
    assert "3 samples" in capsys.readouterr().out
    assert outline_pixels(png) > 1000


def test_a_config_is_previewed_with_its_own_augmentation(volumes, tmp_path):
    config = {
        "dataset_dir": str(tmp_path / "elsewhere"),
        "data": {
            "_target_": "cellseg3d.datasets.volumes.load_fold",
            "dataset": "@dataset_dir",
        },
        "train": {
            "dataset": {
                "_target_": "cellseg3d.samples.loaders.SampleDataset",
                "cases": "$@data.training",
                "spec": {"spatial_dims": 3, "patch_shape": [4, 32, 32]},
                "transform": {"_target_": "cellseg3d.samples.transforms.RandSymmetryd"},
            }
        },
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(config))
    png = tmp_path / "p.png"
    words = ["preview", str(path), "--data", str(volumes), "--png", str(png)]

    assert main(words) == 0

    first = png.read_bytes()
    assert outline_pixels(png) > 1000
    assert main([*words, "--epoch", "1"]) == 0
    assert png.read_bytes() != first


def test_a_config_without_our_samples_is_refused(tmp_path, volumes, capsys):
    path = tmp_path / "train.json"
    path.write_text(
        json.dumps({"dataset_dir": str(volumes), "train": {"dataset": [1, 2]}})
    )
    words = ["preview", str(path), "--data", str(volumes)]

    assert main([*words, "--png", str(tmp_path / "p.png")]) == 3

    assert "train::dataset is a list" in capsys.readouterr().err


def test_a_misspelt_place_is_refused_in_one_line(tmp_path, capsys):
    code = main(["preview", str(tmp_path / "no"), "--png", str(tmp_path / "p.png")])

    error = capsys.readouterr().err
    assert code in (2, 3)
    assert error.startswith("error: ")
    assert error.count("\n") == 1

"""What is wrong with a data set ends `train` in one line, before any step."""

import json

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume

SPACING = Spacing(0.05, 0.05, 0.05)
SHAPE = (8, 10, 12)


def arrays(seed):
    label = np.zeros(SHAPE, np.uint8)
    label[2:6, 3:8, 4:9] = 1
    noise = np.random.default_rng(seed).normal(0, 0.2, SHAPE)
    return (label + noise).astype(np.float32), label


@pytest.fixture
def place(tmp_path):
    """Two sound pairs with a datalist; each test breaks something."""
    cases = []
    for number in range(2):
        image, label = arrays(number)
        write_volume(tmp_path / f"v{number}.mrc", Volume(image, SPACING))
        write_labels(tmp_path / f"v{number}_label.tif", Volume(label, SPACING))
        files = {"image": f"v{number}.mrc", "label": f"v{number}_label.tif"}
        cases.append({"name": f"v{number}", "group": f"g{number}", **files})
    values = {"name": "d", "classes": ["background", "cell"], "cases": cases}
    (tmp_path / "datalist.json").write_text(json.dumps(values))
    return tmp_path


def spoil_image(place, change):
    image, _ = arrays(0)
    write_volume(place / "v0.mrc", Volume(change(image), SPACING))


def spoil_label(place, change):
    _, label = arrays(0)
    write_labels(place / "v0_label.tif", Volume(change(label), SPACING))


def cut(place):
    file = place / "v0.mrc"
    file.write_bytes(file.read_bytes()[:-500])


def with_nan(image):
    image[3, 4, 5] = np.nan
    return image


def with_infinity(image):
    image[0, 0, 0] = np.inf
    return image


def same_image(place):
    (place / "v1.mrc").write_bytes((place / "v0.mrc").read_bytes())


def misspelt(place):
    path = place / "datalist.json"
    path.write_text(path.read_text().replace('"classes"', '"clases"'))


FAULTS = {
    "cut file": (cut, 2, "v0.mrc"),
    "NaN": (lambda p: spoil_image(p, with_nan), 2, "(z=3, y=4, x=5)"),
    "infinity": (lambda p: spoil_image(p, with_infinity), 2, "v0.mrc"),
    "turned label": (lambda p: spoil_label(p, lambda a: a.T), 2, "(12, 10, 8)"),
    "unexpected value": (lambda p: spoil_label(p, lambda a: a * 7), 2, "7"),
    "0 and 255": (lambda p: spoil_label(p, lambda a: a * 255), 2, "255"),
    "missing file": (lambda p: (p / "v1.mrc").unlink(), 2, "v1.mrc"),
    "one volume twice": (same_image, 3, "same content"),
    "misspelt key": (misspelt, 3, "did you mean 'classes'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_data_ends_a_training_in_one_line(place, tmp_path, capsys, name):
    spoil, code, words = FAULTS[name]
    spoil(place)
    run = tmp_path / "run"

    answer = main(
        [
            *("train", "--bundle", "cell_tomo_unet3d", "--out", str(run)),
            *("--data", str(place / "datalist.json"), "--device", "cpu", "--quiet"),
        ]
    )

    errors = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("error:")
    ]
    assert answer == code
    assert len(errors) == 1
    assert words in errors[0]
    assert not list(run.glob("checkpoints/*"))


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [("empty", 2, "no pairs of volumes found"), ("nowhere", 2, "nowhere")],
)
def test_a_place_without_data_is_named(tmp_path, capsys, data, code, words):
    (tmp_path / "empty").mkdir()
    base = ["train", "--bundle", "cell_tomo_unet3d", "--out", str(tmp_path / "run")]

    answer = main([*base, "--data", str(tmp_path / data)])

    assert answer == code
    assert words in capsys.readouterr().err


def small_training(place, *words):
    out = place / "run"
    options = ["--epochs", "1", "--set", "train::dataset::samples=2", "--quiet"]
    data = ["--data", str(place), "--out", str(out)]
    return main(["train", "--bundle", "cell_tomo_unet2d", *data, *options, *words])


@pytest.mark.slow
def test_volumes_too_small_for_the_bundles_weights_are_trained_without_them(
    place, caplog
):
    assert small_training(place) == 0

    config = json.loads((place / "run" / "configs" / "train.json").read_text())
    assert config["pretrained"] is None
    assert "the training begins with random weights" in caplog.text


def test_weights_that_the_user_asks_for_must_fit(place, capfd):
    assert small_training(place, "--pretrained", "cell_tomo_unet2d") == 2
    assert "in one of the two networks alone" in capfd.readouterr().err

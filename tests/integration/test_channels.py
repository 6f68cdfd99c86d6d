"""A data set of two stains from the datalist to labels, by every way that predicts."""

import json

import monai.bundle
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from safetensors.torch import load_file
from two_stains import NAMES, SPACING, two_stains, write_set, write_stains

import cellseg3d
from cellseg3d.cli.main import main
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, read_labels, write_labels

SETTINGS = {
    "train::dataset::samples": 96,
    "train::dataloader::batch_size": 8,
    "network_def::name": "residual_unet",
    "network_def::channels": [8, 16, 32],
}


def train(folder, bundle="cell_tomo_unet2d", channels=2, epochs=1, **settings):
    data = write_set(folder / "data", channels=channels)
    options = cellseg3d.TrainOptions(
        epochs=epochs,
        seed=1,
        settings={**SETTINGS, **settings},
        progress=False,
        calibrate=False,
    )
    return cellseg3d.train(bundle, data, folder / "run", options)


def dice_on_validation(run):
    image, label = two_stains(2)
    model = cellseg3d.load_model(run)
    several = len(model.channels) > 1
    seen = image if several else image[NAMES.index(model.channels[0])]
    found = cellseg3d.segment(Volume(seen, SPACING), model).labels.read() > 0
    return 2 * (found & (label > 0)).sum() / (found.sum() + label.sum())


@pytest.mark.slow
def test_a_network_of_both_stains_learns_what_one_stain_does_not_show(tmp_path):
    both = dice_on_validation(train(tmp_path / "both", epochs=10))
    one = dice_on_validation(train(tmp_path / "one", channels="actin", epochs=10))

    # A ball in actin is of the class in one of two cases, so Dice is about 2/3.
    assert both > 0.9
    assert one < 0.8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A 2.5D network of two stains that was trained for a few steps."""
    settings = {"train::dataset::samples": 8}
    folder = tmp_path_factory.mktemp("stains")
    return train(folder, "cell_tomo_unet25d", **settings)


def test_a_run_states_its_channels(run):
    metadata = json.loads((run / "configs" / "metadata.json").read_text())
    context = cellseg3d.load_model(run).spec.context
    image = metadata["network_data_format"]["inputs"]["image"]

    assert cellseg3d.load_model(run).channels == NAMES
    assert image["num_channels"] == 2 * (2 * context + 1)
    names = [image["channel_def"][str(n)] for n in range(image["num_channels"])]
    assert names[context] == "DAPI"
    assert names[3 * context + 1] == "actin"
    assert names[0] == f"DAPI, slice -{context}"
    assert metadata["image_classes"] == "2 channels: DAPI, actin"


def test_monai_finds_the_network_as_the_metadata_say(run):
    monai.bundle.verify_net_in_out(
        "network_def",
        meta_file=str(run / "configs" / "metadata.json"),
        config_file=str(run / "configs" / "inference.json"),
        device="cpu",
        n=1,
    )


def test_every_way_to_predict_gives_the_same_labels(run, tmp_path):
    """Compare the command line, the function and MONAI's own way."""
    image, _ = two_stains(5)
    folder = tmp_path / "images"
    folder.mkdir()
    place = write_stains(folder / "cell.ome.tif", image)
    model = cellseg3d.load_model(run)
    volume = cellseg3d.open_volume(place, channels="all")
    expected = cellseg3d.segment(volume, model).labels.read()

    words = ["predict", str(place), "--bundle", str(run), "--out", str(tmp_path)]
    assert main([*words, "--format", ".tif"]) == 0
    work = ConfigWorkflow(
        config_file=str(run / "configs" / "inference.json"),
        workflow_type="infer",
        run_id="inferring",
        logging_file=False,
        bundle_root=str(run),
        dataset_dir=str(folder),
        output_dir=str(tmp_path / "monai"),
    )
    work.initialize()
    work.run()
    work.finalize()

    labels = open_volume(tmp_path / "cell_labels.tif").read()
    np.testing.assert_array_equal(labels, expected)
    (written,) = (tmp_path / "monai").glob("*.nii.gz")
    np.testing.assert_array_equal(read_labels(written).array, expected)
    assert len(np.unique(expected)) == 2


def test_weights_of_one_channel_begin_a_training_on_two(tmp_path):
    """Layers beside the first are those of the training on one stain."""
    few = {"train::dataset::samples": 8}
    one = train(tmp_path / "one", channels="DAPI", **few)
    weights = one / "models" / "model.safetensors"
    data = tmp_path / "one" / "data" / "datalist.json"
    options = cellseg3d.TrainOptions(
        epochs=1,
        settings={**SETTINGS, **few, "optimizer::lr": 0.0},
        progress=False,
        calibrate=False,
        pretrained=weights,
        channels=2,
    )

    both = cellseg3d.train("cell_tomo_unet2d", data, tmp_path / "both", options)

    before, now = (
        load_file(run / "models" / "model.safetensors") for run in (one, both)
    )
    (first,) = (name for name in now if now[name].shape != before[name].shape)
    torch.testing.assert_close(now[first], before[first].repeat(1, 2, 1, 1) / 2)
    counted = ("running", "num_batches")  # by norms, at every step
    same = [n for n in now if n != first and not any(word in n for word in counted)]
    for name in same:
        torch.testing.assert_close(now[name], before[name])


def test_colours_of_pictures_train_and_predict(tmp_path):
    """A folder of RGB pictures: a purple spot counts, a red and a blue one do not."""
    cases = []
    for seed in range(3):
        (red, blue), label = two_stains(seed, shape=(1, 48, 48))
        picture = np.stack([red[0] // 8, red[0] * 0, blue[0] // 16], axis=-1)
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"p{seed}.png")
        write_labels(tmp_path / f"p{seed}_label.tif", Volume(label))
        split = "validation" if seed == 2 else "training"
        files = {"image": f"p{seed}.png", "label": f"p{seed}_label.tif"}
        cases.append({**files, "name": f"p{seed}", "split": split})
    values = {"classes": ["background", "purple"], "channels": 3, "cases": cases}
    place = tmp_path / "datalist.json"
    place.write_text(json.dumps(values), encoding="utf-8")
    options = cellseg3d.TrainOptions(
        epochs=1, seed=1, settings=SETTINGS, progress=False, calibrate=False
    )

    run = cellseg3d.train("cell_tomo_unet2d", place, tmp_path / "run", options)

    model = cellseg3d.load_model(run)
    assert model.channels == ("red", "green", "blue")
    assert model.spec.image_channels == 3
    words = ["predict", str(tmp_path / "p2.png"), "--bundle", str(run), "--format"]
    assert main([*words, ".tif", "--out", str(tmp_path / "out")]) == 0
    picture = cellseg3d.open_volume(tmp_path / "p2.png", channels=3)
    np.testing.assert_array_equal(
        open_volume(tmp_path / "out" / "p2_labels.tif").read(),
        cellseg3d.segment(picture, model).labels.read(),
    )

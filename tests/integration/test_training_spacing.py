"""A network sees the voxels that it was trained on, whatever voxels the files have."""

import json

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigWorkflow
from two_balls import two_balls, write_mrc, write_two_balls

from cellseg3d.bundle.model import load_model
from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, read_labels
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.segment import segment

pytestmark = [
    pytest.mark.filterwarnings("ignore:parsing:UserWarning"),
    pytest.mark.filterwarnings("ignore:building:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
FILES_UM, TRAINING_UM = 0.05, 0.1
SETTINGS = (
    f"data::spacing_um=[{TRAINING_UM}, {TRAINING_UM}, {TRAINING_UM}]",
    "network_def::name=residual_unet",
    "network_def::channels=[4, 8]",
    "train::dataset::samples=16",
    "val_interval=8",
    "intensity::mode=range",
    "intensity::lower=60",
    "intensity::upper=180",
    "average::decay=0.9",
    "optimizer::lr=0.01",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run trained at 0.1 um on files of 0.05 um, and a volume to predict."""
    folder = tmp_path_factory.mktemp("spacing")
    datalist = write_two_balls(folder / "data")
    (folder / "unseen").mkdir()
    write_mrc(folder / "unseen" / "fine.mrc", two_balls(7)[0], FILES_UM)
    words = ["train", "--bundle", "cell_tomo_unet3d", "--data", str(datalist)]
    words += ["--out", str(folder / "run"), "--epochs", "16", "--device", "cpu"]
    words += ["--precision", "float32", "--quiet", "--no-calibrate"]
    words += [word for text in SETTINGS for word in ("--set", text)]
    assert main(words) == 0
    return folder


def by_hand(volume, model):
    """Halve an image as `halved` does, segment it, give each voxel its label."""
    image = halved(volume.read())
    seen = Volume(image, Spacing(TRAINING_UM, TRAINING_UM, TRAINING_UM))
    labels = segment(seen, model, SegmentOptions(precision="float32")).labels
    return labels.array.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def halved(image):
    """Halve each side as torch does."""
    found = torch.from_numpy(image.astype(np.float32))
    for _ in range(3):  # the first axis becomes the last
        rows, side = found.flatten(1), len(found) // 2
        small = torch.nn.functional.interpolate(
            rows[None, None], (side, rows.shape[1]), mode="bilinear", antialias=True
        )
        found = small.reshape(side, *found.shape[1:]).movedim(0, -1)
    return np.rint(found.numpy()).astype(image.dtype)


def test_a_run_says_the_spacing_that_its_network_has_seen(place):
    model = load_model(place / "run")

    assert model.spacing_um.zyx == pytest.approx((TRAINING_UM,) * 3)
    assert model.resampled
    config = json.loads((place / "run" / "configs" / "train.json").read_text())
    # A crop fits the volumes that it is cut from, which have 16 voxels a side.
    assert config["spec"]["patch_shape"] == [16, 16, 16]


def test_predict_sees_the_voxels_of_the_training(place, tmp_path):
    path = place / "unseen" / "fine.mrc"
    volume, model = open_volume(path), load_model(place / "run")
    words = ["predict", str(path), "--bundle", str(place / "run")]

    code = main([*words, "--out", str(tmp_path), "--precision", "float32"])

    assert code == 0
    expected = by_hand(volume, model)
    assert 100 < expected.sum() < expected.size - 100
    np.testing.assert_array_equal(
        read_labels(tmp_path / "fine_labels.mrc").read(), expected
    )
    options = SegmentOptions(precision="float32")
    np.testing.assert_array_equal(
        segment(volume, model, options).labels.array, expected
    )


def test_a_volume_of_the_training_spacing_is_taken_as_it_is(place, tmp_path):
    path, model = tmp_path / "coarse.mrc", load_model(place / "run")
    image = two_balls(7)[0][::2, ::2, ::2]
    write_mrc(path, np.ascontiguousarray(image), TRAINING_UM)
    options = SegmentOptions(precision="float32")

    found = segment(open_volume(path), model, options).labels.array

    as_it_is = SegmentOptions(precision="float32", rescale=False)
    np.testing.assert_array_equal(
        found, segment(open_volume(path), model, as_it_is).labels.array
    )


def test_a_volume_that_states_no_spacing_is_predicted_and_said(place, caplog):
    path = place / "none.tif"
    tifffile.imwrite(path, two_balls(7)[0])
    words = ["predict", str(path), "--bundle", str(place / "run")]

    code = main([*words, "--out", str(place / "none")])

    assert code == 0
    [said] = [r.getMessage() for r in caplog.records if "none.tif" in r.getMessage()]
    assert "voxel edges are unknown" in said
    assert "pass `spacing_um`" in said


def run_monai(place, file, run_id, **overrides):
    work = ConfigWorkflow(
        config_file=str(place / "run" / "configs" / file),
        workflow_type="infer",
        run_id=run_id,
        logging_file=False,
        device="cpu",
        precision="float32",
        **overrides,
    )
    work.initialize()
    result = work.run()
    work.finalize()
    return result


def test_monais_inferring_gives_the_same_labels(place, tmp_path):
    run_monai(
        place,
        "inference.json",
        "inferring",
        dataset_dir=str(place / "unseen"),
        output_dir=str(tmp_path),
    )

    found = read_labels(tmp_path / "fine_labels.nii.gz")
    volume = open_volume(place / "unseen" / "fine.mrc")
    assert found.spacing.is_close(volume.spacing)
    np.testing.assert_array_equal(
        found.read(), by_hand(volume, load_model(place / "run"))
    )


def test_evaluating_scores_on_the_spacing_that_validation_scored_on(place, tmp_path):
    """Without a test case, the volume that validated is scored again."""
    datalist = json.loads((place / "data" / "datalist.json").read_text())
    datalist["cases"] = datalist["cases"][:2]
    both = place / "data" / "both.json"
    both.write_text(json.dumps(datalist))

    [scores] = run_monai(place, "evaluate.json", "evaluating", dataset_dir=str(both))

    record = json.loads((place / "run" / "run.json").read_text())
    found = scores["mean"]["ball"]["dice"]
    assert found == pytest.approx(record["best_score"], abs=1e-6)

"""From touching discs to a net that parts them: train, predict and tune by command."""

import json
import warnings

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import read_labels, write_labels, write_volume
from cellseg3d.metrics.object_scores import match_objects, object_scores
from cellseg3d.prediction.tune_objects import tune_run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ignite.engine  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401

RADIUS, STEP, SIDE = 6.0, 11, 80


def discs(seed):
    """Ids of a grid of discs that overlap by a voxel, some left out, and an image."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((SIDE, SIDE))
    ids = np.zeros((1, SIDE, SIDE), np.uint16)
    nearest = np.full((SIDE, SIDE), RADIUS)
    for row in range(7, SIDE - 6, STEP):
        for column in range(7, SIDE - 6, STEP):
            if rng.random() < 0.3:
                continue
            away = np.hypot(y - row, x - column)
            mine = away < nearest
            nearest[mine] = away[mine]
            ids[0][mine] = ids.max() + 1
    image = 60 + 90 * (ids > 0) + rng.normal(0, 12, ids.shape)
    return ids, image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("discs")
    cases = []
    for number in range(4):
        ids, image = discs(number)
        write_volume(place / f"d{number}.tif", Volume(image))
        write_labels(place / f"d{number}_ids.tif", Volume(ids))
        case = {"image": f"d{number}.tif", "label": f"d{number}_ids.tif"}
        cases.append(case | {"split": "test" if number == 3 else "training"})
    values = {"classes": ["background", "disc"], "labels": "objects", "cases": cases}
    (place / "datalist.json").write_text(json.dumps(values))
    return place


def train(folder, out, target, samples, epochs):
    settings = (
        f"train::dataset::samples={samples}",
        "network_def::channels=[8, 16, 32]",
        "average::decay=0.9",
    )
    words = ["train", "--bundle", "cell_tomo_unet2d", "--out", str(out), "--quiet"]
    words += ["--data", str(folder / "datalist.json"), "--target", target]
    words += ["--epochs", str(epochs), "--fold", "none", "--device", "cpu"]
    for setting in settings:
        words += ["--set", setting]
    assert main([*words, "--no-calibrate"]) == 0
    return out


def predict(folder, run, out):
    words = ["predict", str(folder / "d3.tif"), "--bundle", str(run)]
    assert main([*words, "--out", str(out), "--objects"]) == 0
    return read_labels(out / "d3_objects.tif").array


@pytest.mark.parametrize(
    ("target", "classes", "method"),
    [("border-core", 3, "border-core"), ("affinity", 8, "affinity")],
)
def test_a_bundle_learns_a_target_and_predict_decodes_it(
    folder, tmp_path, capsys, target, classes, method
):
    run = train(folder, tmp_path / "run", target, samples=16, epochs=1)
    predict(folder, run, tmp_path / "out")

    voxels = [np.unique(discs(n)[0], return_counts=True)[1][1:] for n in range(3)]
    decoder = json.loads((run / "models" / "decoder.json").read_text())
    least = 0.5 * np.quantile(np.concatenate(voxels), 0.05)
    assert decoder["unit"] == "voxels"
    assert decoder["options"]["min_volume_um3"] == pytest.approx(least, rel=1e-5)
    record = json.loads((run / "run.json").read_text())
    config = json.loads((run / "configs" / "evaluate.json").read_text())
    said = capsys.readouterr().out
    assert len(record["data"]["classes"]) == classes
    assert config["target"]["kind"] == target
    assert f"objects, {method}" in said
    probs = sorted((tmp_path / "out").glob("d3_prob_*.tif"))
    assert len(probs) == classes
    again = ["objects", *map(str, probs), "--out", str(tmp_path / "again.tif")]
    again += ["--min-volume-um3", str(decoder["options"]["min_volume_um3"])]
    assert main(again) == 0
    np.testing.assert_array_equal(
        read_labels(tmp_path / "again.tif").array,
        read_labels(tmp_path / "out" / "d3_objects.tif").array,
    )


def test_a_decoder_is_tuned_on_the_volumes_that_trained_the_run(folder, tmp_path):
    run = train(folder, tmp_path / "run", "border-core", samples=16, epochs=1)

    tuned = tune_run(run, most=2, side=16)  # 16^3 is less than 80 x 80
    kept = json.loads((run / "models" / "decoder.json").read_text())

    assert kept["cases"] == ["d0", "d1"]
    assert kept["unit"] == "voxels"
    assert kept["score"] == tuned.score >= tuned.trials[0]["score"]
    assert kept["options"]["method"] == "border-core"
    with pytest.raises(ConfigError, match="not a bundle"):
        tune_run(folder)


def test_tune_decoder_keeps_what_predict_then_decodes_with(folder, tmp_path, capsys):
    run = train(folder, tmp_path / "run", "border-core", samples=16, epochs=1)
    before = predict(folder, run, tmp_path / "before")
    told = tmp_path / "told.json"
    capsys.readouterr()

    code = main(["tune", "--decoder", str(run), "--json", str(told)])

    said = capsys.readouterr().out
    found = json.loads(told.read_text())
    kept = json.loads((run / "models" / "decoder.json").read_text())
    assert code == 0
    assert "method: border-core" in said
    assert f"mean AP on the training volumes: {found['score']:.4f}" in said
    assert kept["cases"] == ["d0", "d1", "d2"]
    assert found["options"] == {
        name: value for name, value in kept["options"].items() if value is not None
    }
    assert found["score"] == max(trial["score"] for trial in found["trials"])
    # A decoder that keeps no object, to see that predict reads the file.
    assert before.any()
    kept["options"]["min_volume_um3"] = 1e9
    (run / "models" / "decoder.json").write_text(json.dumps(kept))
    assert not predict(folder, run, tmp_path / "after").any()


@pytest.mark.parametrize(
    ("more", "text"),
    [((), "object ids"), (("--method", "magic"), "'magic'")],
    ids=["labels-are-classes", "unknown-method"],
)
def test_tune_decoder_names_a_mistake(folder, tmp_path, capsys, more, text):
    values = json.loads((folder / "datalist.json").read_text())
    if not more:
        values |= {"labels": "classes", "label_map": {str(n): 1 for n in range(1, 99)}}
    for case in values["cases"]:
        case |= {key: str(folder / case[key]) for key in ("image", "label")}
    (tmp_path / "datalist.json").write_text(json.dumps(values))
    run = train(tmp_path, tmp_path / "run", "classes", samples=8, epochs=1)
    before = (run / "models" / "decoder.json").read_bytes()
    capsys.readouterr()

    code = main(["tune", "--decoder", str(run), *more])

    assert code == 3
    assert text in capsys.readouterr().err
    assert (run / "models" / "decoder.json").read_bytes() == before


def test_what_the_training_knew_goes_on_to_predictions_and_scores(
    folder, tmp_path, capsys, caplog
):
    values = json.loads((folder / "datalist.json").read_text())
    for case in values["cases"]:
        case |= {key: str(folder / case[key]) for key in ("image", "label")}
    values["spacing_um"] = [1.0, 0.2, 0.2]
    (tmp_path / "datalist.json").write_text(json.dumps(values))
    run = train(tmp_path, tmp_path / "run", "classes", samples=8, epochs=1)
    predict(folder, run, tmp_path / "out")
    capsys.readouterr()

    labels = tmp_path / "out" / "d3_labels.tif"
    words = ["evaluate", str(labels), str(folder / "d3_ids.tif")]
    code = main([*words, "--json", str(tmp_path / "scores.json")])

    scores = json.loads((tmp_path / "scores.json").read_text())["volumes"]["d3"]
    spacing = read_labels(labels).spacing
    decoder = json.loads((run / "models" / "decoder.json").read_text())
    truth = discs(3)[0]
    assert code == 0
    assert list(scores) == ["disc"]
    assert scores["disc"]["tp"] + scores["disc"]["fn"] == (truth > 0).sum()
    assert spacing.zyx == pytest.approx((1.0, 0.2, 0.2))
    assert "taken as those of the training" in caplog.text
    assert decoder["unit"] == "um"


def test_predict_says_how_many_volumes_failed(folder, tmp_path, capsys):
    run = train(folder, tmp_path / "run", "classes", samples=8, epochs=1)
    bad = tmp_path / "bad.tif"
    bad.write_bytes((folder / "d3.tif").read_bytes()[:300])
    words = [str(folder / "d3.tif"), str(bad), "--bundle", str(run)]

    code = main(["predict", *words, "--out", str(tmp_path / "out")])

    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert lines[-1] == "1 of 2 volumes failed"
    assert (tmp_path / "out" / "d3_labels.tif").exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["border-core", "affinity"])
def test_a_short_training_parts_touching_discs(folder, tmp_path, target):
    run = train(folder, tmp_path / "run", target, samples=160, epochs=12)
    tune_run(run)

    found = predict(folder, run, tmp_path / "out")

    truth = discs(3)[0]
    scores = object_scores(match_objects(found, truth))
    assert scores["object_f1"] > 0.9

"""One round on the command line: pick, correct, merge, train on, see the gain."""

import json

from balls import write_balls

from cellseg3d.cli.main import main
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import read_labels, write_labels
from cellseg3d.review.pieces import load_review

FIXED = ["--fold", "none", "--no-calibrate", "--quiet", "--seed", "0"]


def train(bundle, data, out, samples, *more):
    settings = {
        "train::dataset::samples": samples,
        "train::dataloader::batch_size": 2,
        "spec::patch_shape": "[32,32]",
    }
    words = [
        word for item in settings.items() for word in ("--set", "{}={}".format(*item))
    ]
    start = ["train", "--bundle", str(bundle), "--data", str(data), "--epochs", "1"]
    return main([*start, *FIXED, *words, *more, "--out", str(out)])


def test_corrections_train_a_network_and_the_gain_is_told(tmp_path, capsys):
    data = write_balls(tmp_path, cases=2, side=32)
    first, second, review = (tmp_path / name for name in ("first", "second", "review"))
    assert train("cell_tomo_unet2d", data, first, 4, "--from-scratch") == 0

    volume = str(tmp_path / "ball0.mrc")
    words = ["review", volume, "--bundle", str(first), "--out", str(review), "--n", "6"]
    assert main(words) == 0
    truth = read_labels(tmp_path / "ball0_label.tif").read()
    for piece in load_review(review).pieces:
        right = Volume(piece.flat(truth[piece.roi.slices])[None])
        write_labels(piece.labels_file(review), right)
    capsys.readouterr()
    assert main(["review", "merge", str(review), "--hold-back", "2"]) == 0
    assert "6 pieces, of which 6 corrected" in capsys.readouterr().out
    assert train(first, review / "merged", second, 80) == 0

    told = capsys.readouterr().out
    assert f"begins with the weights of {first}" in told
    scores = tmp_path / "scores.json"
    words = ["review", "score", str(review / "merged"), "--json", str(scores)]
    assert main([*words, "--bundle", str(second)]) == 0
    found = json.loads(scores.read_text())
    assert list(found) == ["trained on", "held back"]
    for both in found.values():
        assert both["after"]["core"] > both["before"]["core"] + 0.4
        for when in ("before", "after"):
            assert f"{both[when]['core']:.4f}" in told


def test_a_review_without_a_bundle_is_refused_in_one_line(tmp_path, capsys):
    assert main(["review", str(tmp_path / "a.mrc"), "--out", str(tmp_path / "r")]) == 2
    assert "--bundle" in capsys.readouterr().err
    assert main(["review", "merge", str(tmp_path)]) == 3
    assert (
        "review.json: is missing or damaged; give a folder" in capsys.readouterr().err
    )


def test_help_names_the_verbs(capsys):
    main(["review", "--help"])

    told = capsys.readouterr().out
    assert all(verb in told for verb in ("pick", "merge", "score"))

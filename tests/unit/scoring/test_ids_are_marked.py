"""Ids of objects are never scored as classes without a word."""

import json

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, write_labels

SPACING = Spacing(0.05, 0.04, 0.03)


def cubes(count, first=1):
    """Ids of `count` separate cubes of 2 x 2 x 2 voxels in a row."""
    ids = np.zeros((4, 4, 3 * count + 1), np.uint16)
    for number in range(count):
        ids[1:3, 1:3, 3 * number + 1 : 3 * number + 3] = first + number
    return ids


def save(path, array, **notes):
    write_labels(path, Volume(array, SPACING, provenance=notes))
    return str(path)


@pytest.mark.parametrize(
    "suffix", [".tif", ".ome.tif", ".nii.gz", ".mrc", ".h5", ".zarr"]
)
def test_the_files_of_objects_are_scored_as_objects(tmp_path, capsys, suffix):
    mask = save(tmp_path / "cell_labels.tif", (cubes(5) > 0).astype(np.uint8))
    found = tmp_path / f"cell_objects{suffix}"
    truth = save(tmp_path / "cell.tif", cubes(5)[:, :, ::-1].copy())
    assert main(["objects", mask, "--out", str(found), "--method", "components"]) == 0
    capsys.readouterr()

    code = main(["evaluate", str(found), truth, "--json", str(tmp_path / "s.json")])

    scores = json.loads((tmp_path / "s.json").read_text())
    assert code == 0
    assert scores["objects"]["cell"]["foreground"]["pq"] == 1.0
    assert list(scores["volumes"]["cell"]) == ["foreground"]
    said = capsys.readouterr().out
    assert "taken for ids of objects" in said
    assert "as with --objects" in said


def test_the_mark_survives_a_conversion(tmp_path):
    one = save(tmp_path / "a.tif", cubes(3), object_ids=True)

    assert main(["convert", one, str(tmp_path / "b.nii.gz"), "--labels"]) == 0

    assert open_volume(tmp_path / "b.nii.gz").provenance["object_ids"] is True


def test_the_users_word_wins_over_the_mark(tmp_path):
    one = save(tmp_path / "a.tif", cubes(2), object_ids=True)
    out = tmp_path / "s.json"

    main(["evaluate", one, one, "--classes", "background,a,b", "--json", str(out)])

    assert set(json.loads(out.read_text())["volumes"]["a"]) == {"a", "b", "foreground"}


@pytest.mark.parametrize("truth_first", [True, False])
def test_many_values_without_a_mark_are_refused_with_the_way_out(
    tmp_path, capsys, truth_first
):
    ids = save(tmp_path / "a.tif", cubes(17))
    mask = save(tmp_path / "b.tif", (cubes(17) > 0).astype(np.uint8))
    pair = [ids, mask] if truth_first else [mask, ids]

    code = main(["evaluate", *pair])

    said = capsys.readouterr().err
    assert code != 0
    assert "a.tif: holds 17 values" in said
    assert "--objects" in said
    assert "--classes" in said
    assert main(["evaluate", *pair, "--objects"]) == 0


def test_sixteen_values_are_classes(tmp_path):
    one = save(tmp_path / "a.tif", cubes(16))
    out = tmp_path / "s.json"

    assert main(["evaluate", one, one, "--json", str(out)]) == 0

    assert json.loads(out.read_text())["volumes"]["a"]["16"]["dice"] == 1.0

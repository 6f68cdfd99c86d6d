"""The verb: a table with reasons, and files that a training takes."""

import json

import numpy as np
import pytest
import tifffile

from cellseg3d.bundle.compose import read_config
from cellseg3d.cli.main import main


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "volumes"
    place.mkdir()
    for seed, stem in enumerate(("a", "b")):
        label = np.zeros((16, 32, 32), np.uint8)
        label[4:12, 6 + seed : 20, 8:24] = 1
        noise = np.random.default_rng(seed).normal(0, 4, label.shape)
        tifffile.imwrite(
            place / f"{stem}_image.tif", (90 * label + noise + 20).astype("f4")
        )
        tifffile.imwrite(place / f"{stem}_label.tif", label)
    return place


def test_three_files_with_reasons(folder, tmp_path, capsys):
    out, record = tmp_path / "plan", tmp_path / "plan.json"

    assert main(["plan", str(folder), "--out", str(out), "--json", str(record)]) == 0

    shown = capsys.readouterr().out
    assert "class foreground: " in shown
    plans = {plan["kind"]: plan for plan in json.loads(record.read_text())["plans"]}
    assert list(plans) == ["2D", "2.5D", "3D"]
    names = {"2D": "plan_2d.yaml", "2.5D": "plan_25d.yaml", "3D": "plan_3d.yaml"}
    for kind, plan in plans.items():
        assert read_config(out / names[kind]) == plan["settings"]
        assert set(plan["reasons"]) == set(plan["settings"])
        assert plan["minutes"] > 0
    assert plans["3D"]["settings"]["spec::patch_shape"] == [16, 32, 32]
    assert f"--plan {out / names['2D']} --out RUN" in shown


def test_a_folder_without_volumes_is_refused(tmp_path, capsys):
    assert main(["plan", str(tmp_path)]) == 2

    assert "no pairs of volumes" in capsys.readouterr().err


def test_unknown_voxels_are_no_cubes(folder, tmp_path, capsys):
    assert main(["plan", str(folder), "--json", str(tmp_path / "a.json")]) == 0
    unknown = capsys.readouterr().out
    words = ["--spacing-um", "0.1", "0.1", "0.1", "--json", str(tmp_path / "b.json")]
    assert main(["plan", str(folder), *words]) == 0

    plans = [json.loads((tmp_path / f"{n}.json").read_text())["plans"] for n in "ab"]
    assert plans[0][0]["advice"].startswith("begin with this one: voxel edges are unk")
    assert plans[1][2]["advice"].startswith("begin with this one: voxels are near")
    assert "--spacing-um" in unknown

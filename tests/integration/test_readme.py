"""Every command of the README runs, in its order, on small volumes.

What a line says is what runs, but for how long a training takes (`SHORTER`), and for
setting up an environment within an environment: `make` is asked what it would do, and
what it would do is run smaller.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.labels import class_labels
from cellseg3d.datasets.simulated import simulate_dataset
from cellseg3d.io.registry import read_labels, read_volume, write_labels, write_volume

ROOT = Path(__file__).parents[2]
SHORTER = {"--minutes 30": "--epochs 1 --set train::dataset::samples=4"}
TINY_TRAINING = "--train::trainer::max_epochs 1 --train::dataset::samples 4"


def commands(section: str, page: str = "README.md") -> list[str]:
    """Lines of the shell blocks of one section of a page, comments removed."""
    text = (ROOT / page).read_text(encoding="utf-8")
    part = re.split(rf"^## {re.escape(section)}$", text, flags=re.MULTILINE)[1]
    part = re.split(r"^## ", part, flags=re.MULTILINE)[0]
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", part, re.DOTALL)).splitlines()
    found = [line.partition(" #")[0].strip() for line in lines]
    return [line for line in found if line]


def python_blocks(section: str) -> list[str]:
    """The Python blocks of one README section."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = re.split(rf"^## {re.escape(section)}$", text, flags=re.MULTILINE)[1]
    part = re.split(r"^## ", part, flags=re.MULTILINE)[0]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A user's folder: two labelled volumes, one new one with its truth."""
    simulate_dataset(tmp_path / "cells", 3, (32, 32, 32), seed=3)
    (tmp_path / "my_data").mkdir()
    targets = ["my_data/a", "my_data/b", "new"]
    for number, target in enumerate(targets):
        stem = tmp_path / "cells" / f"cell_{number:03d}"
        image, label = read_volume(f"{stem}.mrc"), read_labels(f"{stem}_labels.mrc")
        classes = label.array.clip(0, 2)
        ending = ("_volume", "_truth") if target == "new" else ("_image", "_label")
        write_volume(tmp_path / f"{target}{ending[0]}.tif", image)
        write_labels(tmp_path / f"{target}{ending[1]}.tif", label.with_array(classes))
    shutil.rmtree(tmp_path / "cells")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_your_own_data_goes_from_volume_to_measurements(desk):
    for line in commands("Your own data"):
        for long, short in SHORTER.items():
            line = line.replace(long, short)  # noqa: PLW2901
        words = shlex.split(line)
        assert words[0] == "cellseg3d"
        assert main(words[1:]) == 0, line

    labels = read_labels(desk / "my_labels" / "new_volume_labels.tif")
    image = read_volume(desk / "new_volume.tif")
    assert labels.shape == image.shape
    assert labels.spacing == image.spacing
    scores = json.loads((desk / "scores.json").read_text())
    assert 0 <= scores["mean"]["foreground"]["dice"] <= 1
    assert (desk / "objects.csv").read_text().count("\n") >= 1
    assert (desk / "my_data.png").stat().st_size > 1000
    [lines] = python_blocks("Your own data")
    names = {}
    exec(lines, names)
    np.testing.assert_array_equal(names["labels"], labels.array)
    assert names["probs"].shape == (3, *labels.shape)
    assert len([line for line in lines.splitlines() if line]) == 5


def test_the_bundle_commands_train_and_infer(desk):
    bundle = desk / "bundle"
    shutil.copytree(ROOT / "bundles" / "cell_tomo_unet3d", bundle)
    (desk / "volumes").mkdir()
    shutil.copy(desk / "new_volume.tif", desk / "volumes")
    datalist = {
        "classes": ["background", "cytoplasm", "nucleus"],
        "cases": [
            {
                "image": str(desk / f"my_data/{name}_image.tif"),
                "label": str(desk / f"my_data/{name}_label.tif"),
            }
            for name in "ab"
        ],
    }
    (desk / "datalist.json").write_text(json.dumps(datalist))
    lines = commands("With MONAI alone", "docs/bundles.md")
    [train] = [line for line in lines if " run training " in line]
    [infer] = [line for line in lines if " run inferring " in line]
    train = f"{train} {TINY_TRAINING} --dataset_dir {desk / 'datalist.json'}"

    for line in (train, infer.replace(" FOLDER", f" {desk / 'volumes'}")):
        words = shlex.split(line)
        run = subprocess.run(
            [sys.executable, "-W", "ignore", *words[1:]],
            cwd=bundle,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr[-2000:]

    written = list((bundle / "eval").glob("new_volume_labels.*"))
    assert read_labels(written[0]).shape == (32, 32, 32)


def test_make_runs_the_demo_and_the_suite():
    demo, test = commands("See it work")

    assert "cellseg3d demo --out demo" in would_do(demo)
    assert "pytest" in would_do(test)


def test_the_demo_ends_with_scores_and_pages(tmp_path, capsys):
    out = tmp_path / "demo"
    words = ["--shape", "32", "--n", "2", "--steps", "2"]

    code = main(["demo", "--out", str(out), *words])

    assert code == 0
    printed = capsys.readouterr().out
    assert "begins with the weights of cell_tomo_unet3d" in printed
    scores = json.loads((out / "scores.json").read_text())["dice"]
    assert list(scores) == ["unseen", "before", "after"]
    for name, page in zip(scores, ("labels", "before", "after"), strict=True):
        # The mean that is printed is that of the evaluation, over the cells it names.
        evaluation = json.loads((out / page / "evaluation.json").read_text())
        cells = evaluation["volumes"].values()
        cell = np.mean([volume["foreground"]["dice"] for volume in cells])
        assert len(cells) == (2 if name == "unseen" else 1)
        assert scores[name]["cell"] == pytest.approx(cell)
        assert f"{cell:.3f}" in printed
        assert "cell_00" in (out / f"{page}.html").read_text(encoding="utf-8")


def test_the_demo_fine_tunes_on_five_slices_of_the_true_labels(tmp_path):
    out = tmp_path / "demo"

    main(["demo", "--out", str(out), "--shape", "32", "--n", "1", "--steps", "1"])

    [case] = load_datalist(out / "review" / "merged").cases
    given = read_labels(case.label).read()
    whole = load_datalist(out / "noisier")
    truth = class_labels(read_labels(whole.cases[0].label).read(), whole, "truth")
    labelled = [z for z in range(32) if (given[z] != 255).any()]
    assert len(labelled) == 5
    assert case.image == whole.cases[0].image
    np.testing.assert_array_equal(given[labelled], truth[labelled])
    record = json.loads((out / "run" / "run.json").read_text())
    assert record["iteration"] == 1


def test_the_extras_that_the_readme_installs_exist():
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")

    lines = [line for line in commands("Install") if not line.startswith("#")]
    assert any("[all]" in line for line in lines)
    for line in lines:
        extras = re.findall(r"\[(\w+)\]", line)
        assert line.startswith(("pip install", "cellseg3d demo"))
        assert all(re.search(rf"^{extra} =", setup, re.MULTILINE) for extra in extras)


def would_do(line: str) -> str:
    """What `make` would run, its virtual environment counted as there."""
    assert line.startswith("make ")
    run = subprocess.run(
        ["make", "-n", "-C", str(ROOT), *shlex.split(line)[1:]],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout

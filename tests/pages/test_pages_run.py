"""What the pages say is run: commands on small volumes, Python in one namespace a page.

A line runs as it stands, but for how long a training takes and how large a volume is
(`shorter`).
"""

import json
import re
import shlex
import shutil

import h5py
import numpy as np
import pytest
import zarr
from page_blocks import COMMANDS, LANGUAGES, ROOT, TUTORIALS, blocks, pages

from cellseg3d.cli.main import main
from cellseg3d.core.roi import Roi
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.simulated import simulate_dataset
from cellseg3d.io.registry import read_labels, read_volume, write_labels, write_volume

ALL = [block for page in pages() for block in blocks(page)]
RUN = [page for page in pages() if any(each.mark == "run" for each in blocks(page))]
IMAGES = (
    *("volume.mrc", "cell07.mrc", "cell.mrc", "new.mrc", "volume1.tif", "volume2.tif"),
    *("big.ome.zarr", "crop.ome.zarr"),
)
LABELS = ("labels.tif", "truth.tif")
IDS = ("ids.tif", "true_ids.tif", "cells.tif")
SHORT = "--epochs 1 --set train::dataset::samples=4 --quiet --no-calibrate"


ODD_LIST = re.compile(r"^ {1,3}```.*$|^ +```\n(?:\d+\.|-) .*$", re.MULTILINE)


def is_told(mark):
    if mark.startswith("run by "):
        return (ROOT / mark.removeprefix("run by ")).is_file()
    return mark == "run" or re.fullmatch(r"not run: .{10,}", mark) is not None


def test_every_block_says_what_it_is_and_every_command_whether_it_is_run():
    unknown = [each.place for each in ALL if each.language not in LANGUAGES]
    commands = [each for each in ALL if each.language in COMMANDS]
    untold = [
        each.place
        for each in commands
        if TUTORIALS not in each.page.parents and not is_told(each.mark)
    ]

    assert len(commands) > 40
    assert unknown == []
    assert untold == []


def test_a_list_with_blocks_is_one_that_the_site_shows_as_a_list():
    """The site wants four spaces, and a line between an item and the block before."""
    odd = {
        page.name: found
        for page in pages()
        if (found := ODD_LIST.findall(page.read_text(encoding="utf-8")))
    }

    assert odd == {}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with every file that the pages name."""
    pytest.importorskip("cc3d")
    place = tmp_path_factory.mktemp("desk")
    data = place / "DATALIST"
    simulate_dataset(data, 2, (32, 32, 32), seed=3)
    image = read_volume(data / "cell_000.mrc")
    labels = read_labels(data / "cell_000_labels.mrc")
    classes = labels.with_array(labels.array.clip(0, 3))
    for name in IMAGES:
        write_volume(place / name, image)
    for name in LABELS:
        write_labels(place / name, classes)
    for name in IDS:
        write_labels(place / name, labels.with_array((labels.array > 0) * 1))
    write_labels(place / "train.h5::label", classes)
    (place / "results").mkdir()
    write_labels(place / "results" / "cell_000_labels.tif", classes)
    for number, name in enumerate(
        ("background", "cytoplasm", "nucleus", "mitochondrion")
    ):
        probs = Volume((classes.array == number).astype(np.float32), classes.spacing)
        write_volume(place / "results" / f"cell_000_prob_{name}.tif", probs)
    _of_other_programs(place, classes.array)
    shutil.copytree(data, place / "volumes", ignore=shutil.ignore_patterns("*[!0-9].*"))
    shutil.copy(data / "datalist.json", place)
    for each in data.glob("*.mrc"):
        shutil.copy(each, place)
    words = [
        "train",
        "--bundle",
        "cell_tomo_unet2d",
        "--data",
        str(data),
        *SHORT.split(),
        "--from-scratch",
    ]
    assert main([*words, "--out", str(place / "RUN")]) == 0
    for name in ("RUN_A", "RUN_B", "runs/cells"):
        shutil.copytree(place / "RUN", place / name)
    return place


def _of_other_programs(place, classes):
    """Files of the form in which ilastik and webKnossos write theirs."""
    tags = json.dumps({"axes": [{"key": key, "typeFlags": 2} for key in "zyxc"]})
    one = (classes + 1).astype(np.uint8)[..., None]
    each = np.stack([classes == number for number in range(3)], -1).astype(np.float32)
    files = {"segmentation": one, "probabilities": each, "strokes": one % 2}
    for name, array in files.items():
        with h5py.File(place / f"ilastik_{name}.h5", "w") as file:
            file["exported_data"] = array
            file["exported_data"].attrs["axistags"] = tags
    layer = zarr.create_array(
        place / "webknossos_layer.zarr", shape=(1, 40, 36, 32), dtype="uint8"
    )
    layer[...] = np.arange(1 * 40 * 36 * 32, dtype=np.uint8).reshape(1, 40, 36, 32)


def shorter(line):
    """Return a command whose training takes a moment, or Python of a small volume."""
    line = line.replace("--dask local:4", "--dask local:1").replace("4000", "256")
    if line.startswith("cellseg3d train "):
        line = f"{re.sub(r' --(minutes|epochs) [0-9.]+', '', line)} {SHORT}"
    return line


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page, desk, tmp_path, monkeypatch):
    shutil.copytree(desk, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names = {"block": np.ones((256, 256, 256), np.uint8), "Roi": Roi}

    for block in blocks(page):
        if block.mark != "run":
            continue
        if block.language == "python":
            exec(compile(shorter(block.text), block.place, "exec"), names)
            continue
        for line in block.lines:
            words = shlex.split(re.sub(r"^(\w+=\S+ )+", "", shorter(line)))
            assert words[0] == "cellseg3d", f"{block.place}: {line}"
            assert main(words[1:]) == 0, f"{block.place}: {line}"

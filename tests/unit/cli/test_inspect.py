"""inspect shows what a volume is, and names every bad file in a line of its own."""

import json

import h5py
import numpy as np
import pytest
from PIL import Image

from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume


@pytest.fixture
def cell(tmp_path):
    image = np.random.default_rng(0).normal(0.3, 0.1, (20, 30, 40)).astype(np.float32)
    volume = Volume(image, Spacing(0.1, 0.05, 0.05), "1/um", {"simulated": True})
    return write_volume(tmp_path / "cell.mrc", volume)


@pytest.fixture
def labels(tmp_path):
    values = np.zeros((20, 30, 40), np.uint8)
    values[5:10] = 1
    values[15:] = 255
    return write_labels(tmp_path / "labels.tif", Volume(values))


def test_the_table_shows_shape_spacing_unit_range_and_labels(cell, labels, capsys):
    assert main(["inspect", str(cell), str(labels)]) == 0

    out = capsys.readouterr().out
    assert "20 x 30 x 40" in out
    assert "0.1 x 0.05 x 0.05" in out
    assert "1/um (simulated)" in out
    assert "MRC ZYX" in out
    assert "0, 1, 255" in out
    assert "unknown" in out


def test_the_json_holds_the_same_facts(cell, labels, tmp_path):
    out = tmp_path / "facts.json"

    assert main(["inspect", str(cell), str(labels), "--json", str(out)]) == 0

    first, second = json.loads(out.read_text())
    assert first["spacing_um"] == pytest.approx([0.1, 0.05, 0.05])
    assert first["intensity_unit"] == "1/um"
    assert first["simulated"] is True
    assert first["label_counts"] is None
    assert second["label_counts"] == {"0": 12000, "1": 6000, "255": 6000}
    assert second["spacing_um"] is None


def test_the_picture_shows_three_slices_in_their_proportions(cell, tmp_path):
    out = tmp_path / "sheet.png"

    assert main(["inspect", str(cell), "--png", str(out)]) == 0

    sheet = np.asarray(Image.open(out))
    # 40 voxels of 0.05 um and 20 of 0.1 are both 2 um; 30 of 0.05 are 1.5 um.
    assert sheet.shape[0] == 320 + 18 + 16
    assert sheet.shape[1] == 320 + 320 + 240 + 4 * 8
    panel = sheet[26:266, 8:328]
    assert panel.std() > 20


def test_every_bad_file_is_one_line_and_the_code_is_2(cell, tmp_path, capsys):
    cut = tmp_path / "cut.mrc"
    cut.write_bytes(cell.read_bytes()[:5000])
    page = tmp_path / "page.tif"
    page.write_bytes(b"<!DOCTYPE html><html></html>")
    nan = write_volume(
        tmp_path / "nan.tif", Volume(np.full((2, 3, 4), np.nan, np.float32))
    )

    code = main(["inspect", str(cut), str(cell), str(page), str(nan), "missing.tif"])

    said = capsys.readouterr()
    assert code == 2
    lines = said.err.strip().splitlines()
    assert len(lines) == 4
    for line, name, cause in zip(
        lines,
        ("cut.mrc", "page.tif", "nan.tif", "missing.tif"),
        ("incomplete", "HTML", "24 voxels", "does not exist"),
        strict=True,
    ):
        assert line.startswith("error: ")
        assert name in line
        assert cause in line
    assert "20 x 30 x 40" in said.out


def test_a_folder_stands_for_its_volumes(cell, labels, capsys):
    assert main(["inspect", str(cell.parent)]) == 0

    out = capsys.readouterr().out
    assert "cell.mrc" in out
    assert "labels.tif" in out


def test_a_folder_of_images_and_labels_stands_for_both(tmp_path, capsys):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        voxels = np.ones((2, 3, 4), np.uint8)
        write_labels(tmp_path / folder / "a.tif", Volume(voxels, Spacing(1, 1, 1)))

    assert main(["inspect", str(tmp_path)]) == 0

    shown = capsys.readouterr().out
    assert "images/a.tif" in shown
    assert "labels/a.tif" in shown


def test_a_folder_of_slices_is_one_volume(tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 6)).astype(np.uint8)
    folder = write_volume(tmp_path / "slices", Volume(image))

    assert main(["inspect", str(folder)]) == 0

    assert "4 x 5 x 6" in capsys.readouterr().out


def test_images_that_are_no_slices_of_one_volume_are_named_singly(tmp_path, capsys):
    for name, rows in (("a", 4), ("b", 5)):
        Image.fromarray(np.ones((rows, 6), np.uint8)).save(tmp_path / f"{name}.png")

    assert main(["inspect", str(tmp_path)]) == 0

    shown = capsys.readouterr().out
    assert "a.png" in shown
    assert "b.png" in shown


def test_spacing_channel_and_dataset_are_options(tmp_path):
    image = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    path, out = tmp_path / "cell.h5", tmp_path / "facts.json"
    with h5py.File(path, "w") as file:
        file["a"] = image
        file["b"] = image[0]

    words = ["--inner", "a", "--channel", "1", "--spacing-um", "3", "2", "1"]
    assert main(["inspect", str(path), "--json", str(out), *words]) == 0

    (facts,) = json.loads(out.read_text())
    assert facts["shape"] == [3, 4, 5]
    assert facts["range"] == [60, 119]
    assert facts["spacing_um"] == [3, 2, 1]


def test_absent_chunks_warn_and_are_refused_on_demand(tmp_path, capsys):
    path = tmp_path / "cell.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (8, 8, 8), "u1", chunks=(4, 8, 8))[:4] = 7

    assert main(["inspect", str(path)]) == 0
    assert "1 of 2 chunks" in capsys.readouterr().out
    assert main(["inspect", str(path), "--require-complete"]) == 2
    assert "1 of 2 chunks" in capsys.readouterr().err


def test_a_picture_that_is_no_png_is_refused_before_anything_is_read(tmp_path, capsys):
    code = main(["inspect", str(tmp_path / "none.mrc"), "--png", "x.jpg"])

    assert code == 3
    assert "--png x.jpg" in capsys.readouterr().err

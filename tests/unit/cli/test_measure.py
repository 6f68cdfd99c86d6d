"""``cellseg3d measure``: a row an object, in files that others can read."""

import csv
import json

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import write_labels, write_volume

SPACING = Spacing(0.05, 0.04, 0.03)


@pytest.fixture
def files(tmp_path):
    """Two cells, each with a nucleus; classes, ids, cells and an image."""
    classes = np.zeros((8, 20, 30), np.uint8)
    classes[1:7, 3:17, 2:12] = classes[1:7, 3:17, 16:28] = 1
    classes[3:5, 8:11, 5:8] = classes[3:5, 8:12, 20:25] = 2
    ids = np.zeros(classes.shape, np.uint16)
    ids[3:5, 8:11, 5:8], ids[3:5, 8:12, 20:25] = 400, 9
    cells = np.zeros(classes.shape, np.uint16)
    cells[classes > 0] = 1
    cells[:, :, 15:] *= 2
    for name, array in (("classes", classes), ("ids", ids), ("cells", cells)):
        write_labels(tmp_path / f"{name}.tif", Volume(array, SPACING))
    lac = (classes * 0.2).astype(np.float32)
    image = Volume(lac, SPACING, "1/um")
    write_volume(tmp_path / "image.tif", image)
    return tmp_path


def measure(files, *words):
    out = files / "out.json"

    assert main(["measure", *map(str, words), "--json", str(out)]) == 0

    return json.loads(out.read_text())


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_each_object_gets_a_row_with_units_and_its_parent(files):
    table = files / "nuclei.csv"

    found = measure(
        files, files / "ids.tif", "--image", files / "image.tif",
        "--parents", files / "cells.tif", "--class-labels", files / "classes.tif",
        "--classes", "background,cell,nucleus", "--out", table,
    )  # fmt: skip

    rows = rows_of(table)
    assert [row["id"] for row in rows] == ["9", "400"]
    assert [row["class"] for row in rows] == ["nucleus", "nucleus"]
    assert [row["parent"] for row in rows] == ["2", "1"]
    assert float(rows[0]["volume_um3"]) == pytest.approx(40 * 0.05 * 0.04 * 0.03)
    assert float(rows[0]["mean_intensity"]) == pytest.approx(0.4, rel=1e-6)
    assert rows[0]["intensity_unit"] == found["intensity_unit"] == "1/um"
    # Nucleus 9 ends at x = 24, its cell at x = 27: nearer than the slices above.
    assert float(rows[0]["parent_boundary_distance_um"]) == pytest.approx(0.09)
    assert [row["n"] for row in found["parents"]] == [1, 1]
    assert found["parents"][0]["share_of_parent"] == pytest.approx(18 / 840)
    assert found["classes"][0]["n"] == 2


def test_classes_fall_into_connected_pieces_and_cells(files):
    found = measure(
        files, files / "classes.tif", "--components", "--cells",
        "--out", files / "t.csv",
    )  # fmt: skip

    objects = found["objects"]
    assert sorted((row["class"], row["voxels"]) for row in objects) == [
        ("1", 822), ("1", 968), ("2", 18), ("2", 40),
    ]  # fmt: skip
    assert len({row["parent"] for row in objects if row["class"] == "2"}) == 2


def test_csv_and_parquet_hold_the_same(files):
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = files / "t.csv", files / "t.parquet"

    measure(files, files / "ids.tif", "--out", paths[0], "--out", paths[1])

    columns = parquet.read_table(paths[1]).to_pydict()
    rows = rows_of(paths[0])
    assert list(rows[0]) == list(columns)
    assert [int(row["voxels"]) for row in rows] == columns["voxels"] == [40, 18]


def test_without_out_a_csv_is_named_after_the_labels(files, monkeypatch, capsys):
    monkeypatch.chdir(files)

    assert main(["measure", "ids.tif"]) == 0

    assert (files / "ids_objects.csv").read_text().startswith("id,class,voxels")
    assert "2 objects in ids_objects.csv" in capsys.readouterr().out


def test_unknown_spacing_leaves_lengths_out(files, capsys):
    path = files / "bare.tif"
    write_labels(path, Volume(np.ones((2, 3, 4), np.uint8), None))

    found = measure(files, path, "--out", files / "t.csv")
    given = measure(
        files, path, "--out", files / "t.csv", "--spacing-um", "1", "1", "2"
    )

    assert found["objects"][0]["volume_um3"] is None
    assert given["objects"][0]["volume_um3"] == 48.0
    assert "unknown" in capsys.readouterr().out


def test_an_image_of_another_grid_is_refused(files, capsys):
    wrong = files / "wrong.tif"
    write_volume(wrong, Volume(np.zeros((8, 30, 20), np.float32), SPACING))

    code = main(["measure", str(files / "ids.tif"), "--image", str(wrong)])

    assert code == 2
    message = capsys.readouterr().err
    assert "wrong.tif" in message
    assert "one is transposed" in message


def test_an_unknown_table_format_is_refused_before_the_work(files, capsys):
    assert main(["measure", str(files / "ids.tif"), "--out", "t.xlsx"]) == 3

    assert ".parquet" in capsys.readouterr().err

"""What is odd about an input is said by every verb that works on it."""

import json
import shutil
import struct

import h5py
import numpy as np
import pytest
import zarr

from cellseg3d.cli.main import main
from cellseg3d.core.volume import Volume
from cellseg3d.io.hdf5.volume import missing_chunks as hdf5_missing
from cellseg3d.io.registry import write_labels
from cellseg3d.io.zarr.volume import missing_chunks

LABELS = np.zeros((8, 8, 8), np.uint8)
LABELS[1:4, 1:4, 1:4] = 1
LABELS[5:7, 5:7, 5:7] = 2


@pytest.fixture
def holed(tmp_path):
    """Labels of which one chunk of eight was lost."""
    array = zarr.create_array(
        tmp_path / "l.zarr", shape=LABELS.shape, chunks=(4, 4, 4), dtype="u1"
    )
    array[:] = LABELS
    written = sorted(
        each for each in (tmp_path / "l.zarr" / "c").rglob("*") if each.is_file()
    )
    assert len(written) == 2  # chunks of zeros are not written by default
    return tmp_path / "l.zarr"


@pytest.mark.parametrize(
    "words",
    [
        ["objects", "{0}", "--out", "{1}/o.tif", "--method", "components"],
        ["measure", "{0}", "--out", "{1}/o.csv"],
        ["evaluate", "{0}", "{2}"],
        ["report", "--prediction", "{0}", "--out", "{1}/r.html"],
    ],
)
def test_absent_chunks_are_told(tmp_path, holed, caplog, words):
    truth = write_labels(tmp_path / "t.tif", Volume(LABELS))

    code = main([word.format(holed, tmp_path, truth) for word in words])

    assert code == 0
    assert "6 of 8 chunks are missing and read as zeros" in caplog.text


def test_chunks_beyond_the_grid_do_not_fill_holes(holed):
    (holed / "c" / "7" / "0").mkdir(parents=True)
    (holed / "c" / "7" / "0" / "0").write_bytes(b"")

    assert missing_chunks(holed, "") == (6, 8, 0, 1)


@pytest.mark.parametrize("verb", ["objects", "measure", "evaluate", "report"])
def test_a_zarr_that_promises_2_to_the_60_voxels_is_refused_at_once(
    tmp_path, capsys, verb
):
    path = tmp_path / "huge.zarr"
    zarr.create_array(path, shape=(2**20,) * 3, chunks=(64,) * 3, dtype="u1")
    words = {
        "objects": ["--out", str(tmp_path / "o.tif")],
        "measure": ["--out", str(tmp_path / "o.csv")],
        "evaluate": [str(path)],
        "report": ["--out", str(tmp_path / "r.html")],
    }[verb]
    given = ["--prediction", str(path)] if verb == "report" else [str(path)]

    code = main([verb, *given, *words])

    assert code == 2
    assert "no real volume can be compressed so much" in capsys.readouterr().err


def test_cells_that_a_spreadsheet_would_compute_are_texts(tmp_path):
    ids = write_labels(tmp_path / "ids.tif", Volume(LABELS))
    kinds = write_labels(tmp_path / "kinds.tif", Volume((LABELS > 0).astype("u1")))
    words = ["measure", str(ids), "--out", str(tmp_path / "t.csv"), "--json"]
    words += [str(tmp_path / "t.json"), "--class-labels", str(kinds)]

    assert main([*words, "--classes", "background,=1+1"]) == 0

    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["class", "'=1+1", "'=1+1"]
    objects = json.loads((tmp_path / "t.json").read_text())["objects"]
    assert objects[0]["class"] == "=1+1"
    assert [each["voxels"] for each in objects] == [27, 8]


@pytest.mark.parametrize("suffix", [".zarr", ".ome.zarr"])
def test_shards_of_zeros_that_were_left_out_are_none_that_are_lost(tmp_path, suffix):
    labels = np.zeros((300, 300, 300), np.uint8)
    labels[:9, :9, :9] = labels[280:, 280:, 280:] = 3
    path = write_labels(tmp_path / f"a{suffix}", Volume(labels))

    whole = missing_chunks(path, "0")
    shutil.rmtree(path / "0" / "c" / "1")

    assert whole == (0, 8, 0, 0)
    assert missing_chunks(path, "0") == (1, 8, 0, 0)


def test_hdf5_chunks_at_wrong_places_do_not_fill_holes(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file.create_dataset("raw", data=np.ones((8, 8), "u1"), chunks=(4, 4))
    whole = hdf5_missing(path, "raw")
    data = path.read_bytes()
    key = struct.pack("<II3Q", 16, 0, 4, 4, 0)  # size, mask, place of the last chunk
    assert data.count(key) == 1
    path.write_bytes(data.replace(key, struct.pack("<II3Q", 16, 0, 4, 400, 0)))

    assert whole == (0, 4, 0, 0)
    assert hdf5_missing(path, "raw") == (1, 4, 0, 1)

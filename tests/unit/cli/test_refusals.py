"""What a disk, a format or a number refuses is one line, before work begins."""

import errno

import numpy as np
import pytest
import tifffile
from small_bundle import small_bundle

from cellseg3d.cli.main import main
from cellseg3d.core.errors import SpacingError
from cellseg3d.core.spacing import Spacing
from cellseg3d.io.registry import open_volume


@pytest.fixture
def cell(tmp_path):
    file = tmp_path / "cell.tif"
    values = np.random.default_rng(0).integers(0, 255, (6, 24, 20), np.uint8)
    tifffile.imwrite(file, values, photometric="minisblack")
    return file


@pytest.mark.parametrize("edge", [1e-16, 1e16, 1e30])
def test_voxel_edges_beyond_all_sizes_are_refused(edge):
    with pytest.raises(SpacingError, match=r"spacing along y is .* expected a length"):
        Spacing(1, edge, 1)


@pytest.mark.parametrize(
    "name", ["EACCES", "EEXIST", "EIO", "EISDIR", "ENOSPC", "ENOTDIR", "EROFS"]
)
def test_what_the_system_refuses_is_no_fault_of_ours(monkeypatch, capsys, name):
    def refuse(*_args, **_kwargs):
        raise OSError(getattr(errno, name), "refused", "some/place")

    monkeypatch.setattr("cellseg3d.io.listing.volumes_at", refuse)

    assert main(["inspect", "a.tif"]) == 4
    assert capsys.readouterr().err == "error: some/place: refused\n"


def test_a_demo_into_a_file_is_refused(cell, capsys):
    assert main(["demo", "--out", str(cell)]) == 4

    said = capsys.readouterr().err
    assert "cell.tif" in said
    assert "fault of cellseg3d" not in said


@pytest.mark.parametrize("more", [(), ("--probs", "uint8")])
def test_a_png_of_several_slices_is_refused_before_anything_is_computed(
    cell, tmp_path, capsys, monkeypatch, more
):
    def compute(*_args, **_kwargs):
        raise AssertionError("computed")

    monkeypatch.setattr("cellseg3d.prediction.segment.write_chunks", compute)
    words = ["predict", str(cell), "--bundle", str(small_bundle(tmp_path / "toy"))]
    words += ["--out", str(tmp_path / "out"), "--format", ".png", "--device", "cpu"]

    assert main([*words, *more]) == 2

    said = capsys.readouterr().err
    assert "a PNG holds one slice, but the volume has 6" in said
    assert ".partial" not in said


def test_bits_of_which_zero_is_white_are_inverted_with_a_word(tmp_path):
    mask = np.zeros((2, 4, 5), bool)
    mask[:, 1:3, 1:3] = True
    for sense, told in (("miniswhite", True), ("minisblack", False)):
        file = tmp_path / f"{sense}.tif"
        tifffile.imwrite(file, mask, photometric=sense)

        volume = open_volume(file)

        assert (volume.read() == (mask ^ told)).all()
        said = " ".join(volume.provenance.get("warnings", ()))
        assert ("single bits are inverted" in said) == told

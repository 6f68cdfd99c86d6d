"""Folders of slices: their order by number, and other images that lie among them."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellseg3d.core.errors import FormatError
from cellseg3d.io.names import series_of
from cellseg3d.io.registry import open_volume, read_volume


def write(folder, values):
    """Write a slice of 4 x 5 voxels for each name; all voxels have the given value."""
    folder.mkdir(exist_ok=True)
    for name, value in values.items():
        file = folder / name
        plane = np.full((4, 5), value, np.uint8)
        if file.suffix == ".tif":
            tifffile.imwrite(file, plane)
        else:
            Image.fromarray(plane).save(file)
    return folder


@pytest.mark.parametrize(
    "numbers",
    [
        ("1.5", "2.0", "10.5"),
        ("0.25", "0.50", "0.75", "1.00"),
        ("1", "1.5", "2"),
        ("0.9", "1.0", "1.1"),
        ("9.05", "9.10", "10.05"),
    ],
)
def test_decimal_numbers_order_slices_by_value(tmp_path, numbers):
    names = {f"slice_z{text}.tif": index for index, text in enumerate(numbers)}
    folder = write(tmp_path / "slices", dict(sorted(names.items(), reverse=True)))

    volume = read_volume(folder)

    assert volume.array[:, 0, 0].tolist() == list(range(len(numbers)))


def test_a_gap_between_decimal_numbers_is_said(tmp_path):
    folder = write(tmp_path / "s", {f"z{n}.tif": 0 for n in ("0.0", "0.5", "1.5")})

    [said] = open_volume(folder).provenance["warnings"]

    assert said == "the numbers of the slices have a gap: 1.0 is missing"


@pytest.mark.parametrize("numbers", [("1.9", "1.10"), ("2.05", "2.1"), ("1.5", "1.10")])
def test_numbers_that_may_be_decimal_or_two_are_refused(tmp_path, numbers):
    folder = write(tmp_path / "slices", {f"z{text}.tif": 0 for text in numbers})

    with pytest.raises(FormatError, match="may be decimal or two numbers each"):
        open_volume(folder)


def test_three_numbers_with_points_are_no_decimal(tmp_path):
    files = [tmp_path / f"2020.03.0{day}_z1.tif" for day in (2, 1)]

    assert series_of(files, tmp_path).numbers == (1, 2)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".jp2", ".mrc", ".czi"])
def test_a_slice_of_another_format_is_refused(tmp_path, suffix):
    folder = write(tmp_path / "slices", {f"z{n}.png": n for n in (0, 2, 3)})
    (folder / f"z1{suffix}").write_bytes(b"x")

    with pytest.raises(FormatError, match=rf"z1\{suffix} is named like one of its sli"):
        open_volume(folder)


@pytest.mark.parametrize("name", ["overview.jpg", "z1.jpg", "stack.mrc"])
def test_another_image_beside_slices_is_said(tmp_path, name):
    folder = write(tmp_path / "slices", {f"z{n}.png": n for n in range(3)})
    (folder / name).write_bytes(b"x")

    volume = open_volume(folder)

    assert volume.shape == (3, 4, 5)
    [said] = volume.provenance["warnings"]
    assert said.startswith(f"{name} in the folder is not read")


def test_notes_and_hidden_files_beside_slices_are_not_said(tmp_path):
    folder = write(tmp_path / "slices", {f"z{n}.png": n for n in range(3)})
    for name in ("readme.txt", "scale.csv", ".z4.jpg", "cellseg3d.log"):
        (folder / name).write_bytes(b"x")

    assert "warnings" not in open_volume(folder).provenance


@pytest.mark.parametrize(
    "odd", [np.zeros((4, 5), np.uint16), np.zeros((4, 6), np.uint8)]
)
def test_slices_of_other_sizes_or_bits_are_refused(tmp_path, odd):
    folder = write(tmp_path / "slices", {f"z{n}.tif": n for n in range(3)})
    tifffile.imwrite(folder / "z1.tif", odd)

    with pytest.raises(FormatError, match=r"z1\.tif: is .* but the first slice is"):
        read_volume(folder)

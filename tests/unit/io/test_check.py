"""A whole volume is read, once, in parts of bounded size."""

import h5py
import numpy as np
import pytest
from PIL import Image

from cellseg3d.core.errors import AxisError, FormatError, NonFiniteError
from cellseg3d.core.volume import Volume
from cellseg3d.io.check import check_volume
from cellseg3d.io.lazy import RawVoxels
from cellseg3d.io.registry import read_volume, write_labels, write_volume


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr("cellseg3d.io.output.writing.COPY_BYTES", 1000)


@pytest.mark.usefixtures("small_parts")
def test_no_part_is_larger_than_the_bound_and_each_voxel_is_read_once(
    tmp_path, monkeypatch
):
    image = np.random.default_rng(0).random((9, 30, 40)).astype(np.float32)
    path = write_volume(tmp_path / "cell.mrc", Volume(image))
    sizes = []
    read = RawVoxels.__call__

    def watched(self, box):
        part = read(self, box)
        sizes.append(part.nbytes)
        return part

    monkeypatch.setattr(RawVoxels, "__call__", watched)
    findings = check_volume(path)

    assert max(sizes) <= 1000
    assert sum(sizes) == image.nbytes
    assert findings.smallest == image.min()
    assert findings.largest == image.max()
    assert findings.label_counts is None


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("suffix", [".mrc", ".nii.gz", ".tif", ".h5", ".zarr"])
def test_the_very_last_voxel_counts_and_the_first_fault_is_the_first(tmp_path, suffix):
    image = np.ones((9, 30, 40), np.float32)
    image[8, 29, 39] = image[4, 20, 3] = image[4, 3, 30] = np.nan
    path = write_volume(tmp_path / f"cell{suffix}", Volume(image))

    with pytest.raises(NonFiniteError, match=r"3 voxels .*\(z=4, y=3, x=30\)"):
        check_volume(path)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32])
def test_labels_are_counted_over_all_parts(tmp_path, dtype):
    labels = np.random.default_rng(0).integers(0, 5, (9, 30, 40)).astype(dtype)
    path = write_volume(tmp_path / "labels.tif", Volume(labels))

    findings = check_volume(path)

    values, counts = np.unique(labels, return_counts=True)
    assert findings.label_counts == dict(
        zip(values.tolist(), counts.tolist(), strict=True)
    )
    assert (findings.smallest, findings.largest) == (0, 4)


def test_many_values_are_no_labels(tmp_path):
    ids = np.arange(9 * 30 * 40).reshape(9, 30, 40)
    path = write_labels(tmp_path / "ids.tif", Volume(ids))

    assert check_volume(path).label_counts is None
    assert check_volume(path).largest == 10799


@pytest.mark.usefixtures("small_parts")
def test_the_share_read_so_far_is_told(tmp_path):
    image = np.ones((9, 30, 40), np.uint8)
    path = write_volume(tmp_path / "cell.mrc", Volume(image))
    shares = []

    check_volume(path, on_part=shares.append)

    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 10


def test_a_png_of_equal_colours_is_grey_and_says_so(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    opaque = np.full_like(grey, 255)
    for name, planes in (
        ("rgba.png", [grey] * 3 + [opaque]),
        ("rgb.png", [grey] * 3),
        ("la.png", [grey, opaque]),
    ):
        Image.fromarray(np.stack(planes, -1)).save(tmp_path / name)

        volume = read_volume(tmp_path / name)

        np.testing.assert_array_equal(volume.array, grey[None])
        assert "read as grey" in volume.provenance["warnings"][0]


@pytest.mark.parametrize("channel", [1, 3])
def test_a_png_with_colours_or_transparent_pixels_is_refused(tmp_path, channel):
    pixels = np.full((3, 4, 4), 255, np.uint8)
    pixels[0, 0, channel] = 9
    Image.fromarray(pixels).save(tmp_path / "a.png")

    with pytest.raises(AxisError, match="channel"):
        read_volume(tmp_path / "a.png")


def test_a_missing_dataset_is_answered_with_those_there_are(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros((2, 3, 4))
        file["deep/label"] = np.zeros((2, 3, 4))

    with pytest.raises(FormatError, match=r"its datasets are: deep/label, raw"):
        read_volume(tmp_path / "a.h5", inner="rwa")

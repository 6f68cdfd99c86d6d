"""MONAI loads and saves every format, and no other reader ever steps in."""

import json

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Flipd,
    LoadImage,
    LoadImaged,
    SaveImaged,
    SpatialCropd,
)

from cellseg3d.core.errors import CellSegError, NonFiniteError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import read_labels, read_volume, write_labels, write_volume
from cellseg3d.samples.monai_io import LabelWriter, VolumeReader, VolumeWriter

SUFFIXES = (".tif", ".ome.tif", ".nii", ".nii.gz", ".mrc", ".h5", ".zarr")
SPACING = Spacing(0.05, 0.03, 0.02)


def loading(keys=("image",)):
    return Compose(
        [
            LoadImaged(keys, reader=VolumeReader),
            EnsureChannelFirstd(keys, channel_dim="no_channel"),
        ]
    )


def saving(folder, suffix, **options):
    options = {"writer": VolumeWriter, **options}
    return SaveImaged(
        "image",
        output_dir=folder,
        output_ext=suffix,
        separate_folder=False,
        output_postfix="out",
        print_log=False,
        **options,
    )


@pytest.fixture
def image():
    return np.random.default_rng(0).random((5, 7, 9)).astype(np.float32)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_loading_and_saving_keeps_values_order_and_meaning(tmp_path, image, suffix):
    source = Volume(image, SPACING, "1/um", {"simulated": True, "scan": "7"})
    path = write_volume(tmp_path / f"cell{suffix}", source)

    item = loading()({"image": path})
    saving(tmp_path / "out", suffix)(item)

    assert item["image"].shape == (1, 5, 7, 9)
    np.testing.assert_array_equal(item["image"][0].numpy(), image)
    np.testing.assert_allclose(item["image"].meta["spacing_um"], SPACING.zyx, rtol=1e-6)
    np.testing.assert_allclose(item["image"].pixdim, SPACING.zyx, rtol=1e-6)
    (written,) = (tmp_path / "out").iterdir()
    found = read_volume(written)
    np.testing.assert_array_equal(found.array, image)
    assert found.spacing.is_close(SPACING, 1e-6)
    assert found.intensity_unit == "1/um"
    assert found.provenance["simulated"] is True
    assert found.provenance["scan"] == "7"


def test_a_nifti_comes_back_where_it_lay(tmp_path, image):
    affine = np.array(
        [[0, -2e-5, 0, 1], [1e-5, 0, 0, 2], [0, 0, 3e-5, 3], [0, 0, 0, 1.0]]
    )
    source = Volume(image, Spacing(0.03, 0.02, 0.01), affine_mm=affine)
    path = write_volume(tmp_path / "cell.nii.gz", source)

    saving(tmp_path / "out", ".nii.gz")(loading()({"image": path}))

    found = read_volume(next((tmp_path / "out").iterdir()))
    np.testing.assert_allclose(found.affine_mm, affine, rtol=1e-6, atol=1e-9)


def test_a_crop_and_a_flip_are_saved_with_their_spacing(tmp_path, image):
    path = write_volume(tmp_path / "cell.mrc", Volume(image, SPACING))
    crop = Compose(
        [
            SpatialCropd("image", roi_start=(1, 2, 3), roi_end=(5, 6, 9)),
            Flipd("image", spatial_axis=2),
        ]
    )

    saving(tmp_path / "out", ".mrc")(crop(loading()({"image": path})))

    found = read_volume(next((tmp_path / "out").iterdir()))
    np.testing.assert_array_equal(found.array, image[1:5, 2:6, 3:9][..., ::-1])
    assert found.spacing.is_close(SPACING, 1e-6)


def test_an_unknown_spacing_stays_unknown(tmp_path, image):
    path = write_volume(tmp_path / "cell.tif", Volume(image))

    item = loading()({"image": path})
    saving(tmp_path / "out", ".tif")(item)

    assert np.isnan(item["image"].meta["spacing_um"]).all()
    assert read_volume(next((tmp_path / "out").iterdir())).spacing is None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"rubbish" * 300, b"<html></html>"])
def test_a_broken_file_ends_in_our_error_and_no_other_reader(tmp_path, suffix, content):
    path = tmp_path / f"cell{suffix}"
    path.write_bytes(content)

    with pytest.raises(CellSegError, match=f"cell{suffix}"):
        LoadImage(reader=VolumeReader)(path)


def test_nan_is_refused_though_another_reader_would_take_it(tmp_path, image):
    image[1, 2, 3] = np.nan
    path = write_volume(tmp_path / "cell.nii", Volume(image))
    assert torch.isnan(LoadImage()(path)).any()

    with pytest.raises(NonFiniteError, match="1 voxel is NaN"):
        LoadImage(reader=VolumeReader)(path)


@pytest.mark.parametrize("suffix", [".tif", ".nii.gz", ".h5", ".zarr"])
def test_ids_beyond_float32_are_exact(tmp_path, suffix):
    labels = np.arange(5 * 7 * 9).reshape(5, 7, 9) + 2**24
    path = write_labels(tmp_path / f"labels{suffix}", Volume(labels, SPACING))
    load = LoadImaged("image", reader=VolumeReader(labels=True), dtype=None)

    item = EnsureChannelFirstd("image", channel_dim="no_channel")(load({"image": path}))
    saving(tmp_path / "out", suffix, writer=LabelWriter)(item)

    np.testing.assert_array_equal(item["image"][0].numpy(), labels)
    found = read_labels(next((tmp_path / "out").iterdir()))
    np.testing.assert_array_equal(found.array, labels)
    assert found.dtype == np.uint32


def test_a_dtype_too_small_is_an_error_not_a_cut(tmp_path, image):
    labels = np.arange(5 * 7 * 9, dtype=np.int32).reshape(1, 5, 7, 9)
    save = saving(tmp_path / "out", ".tif", output_dtype=np.uint8)

    with pytest.raises(RuntimeError, match="does not fit into uint8"):
        save({"image": torch.from_numpy(labels)})


def test_several_channels_are_not_saved_as_one(tmp_path):
    with pytest.raises(RuntimeError, match="3 channels"):
        saving(tmp_path, ".tif")({"image": torch.ones(3, 4, 5, 6)})


def test_items_of_several_files_are_channels(tmp_path, image):
    paths = [
        write_volume(tmp_path / f"{name}.tif", Volume(image + step, SPACING))
        for step, name in enumerate("ab")
    ]

    found = LoadImage(reader=VolumeReader, ensure_channel_first=True)(paths)

    np.testing.assert_array_equal(found.numpy(), np.stack([image, image + 1]))


def test_metadata_can_be_collated(tmp_path, image):
    paths = [write_volume(tmp_path / f"{name}.tif", Volume(image)) for name in "ab"]
    items = Dataset([{"image": path} for path in paths], loading())

    batch = next(iter(DataLoader(items, batch_size=2)))

    assert batch["image"].shape == (2, 1, 5, 7, 9)


def test_a_dataset_in_a_file_and_options_are_reached(tmp_path, image):
    path = write_volume(tmp_path / "cell.h5", Volume(image))

    found = LoadImage(reader=VolumeReader(spacing_um=(1, 2, 3)))(f"{path}::raw")

    np.testing.assert_array_equal(found.numpy(), image)
    assert json.dumps(found.meta["spacing_um"].tolist()) == "[1.0, 2.0, 3.0]"

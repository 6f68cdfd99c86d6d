"""Several channels and time points are read from every format that can hold them."""

import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from cellseg3d.core.errors import AxisError, ConfigError, FormatError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.output.writing import write_times
from cellseg3d.io.registry import open_volume, read_volume, write_volume

CZYX = np.random.default_rng(1).integers(0, 4000, (3, 4, 20, 24)).astype(np.uint16)
TCZYX = np.random.default_rng(2).integers(0, 4000, (2, 3, 4, 20, 24)).astype(np.uint16)
NAMES = ["DAPI", "actin", "tubulin"]
RGB = np.random.default_rng(3).integers(0, 255, (20, 24, 3)).astype(np.uint8)


def ome_tiff(path: Path, array=CZYX, axes="CZYX", **options) -> Path:
    file = path / "cell.ome.tif"
    about = {"axes": axes, "Channel": {"Name": NAMES}}
    tifffile.imwrite(
        file, array, ome=True, metadata=about, photometric="minisblack", **options
    )
    return file


def imagej_tiff(path: Path) -> Path:
    file = path / "cell.tif"
    order = CZYX.transpose(1, 0, 2, 3)
    tifffile.imwrite(file, order, imagej=True, metadata={"axes": "ZCYX"})
    return file


def hdf5(path: Path) -> Path:
    file = path / "cell.h5"
    with h5py.File(file, "w") as out:
        out["raw"] = CZYX.transpose(1, 2, 3, 0)
        tags = {"axes": [{"key": letter} for letter in "zyxc"]}
        out["raw"].attrs["axistags"] = json.dumps(tags)
    return file


def ome_zarr(path: Path, array=CZYX, axes="czyx") -> Path:
    file = path / "cell.ome.zarr"
    group = zarr.open_group(file, mode="w", zarr_format=3)
    group.create_array("0", data=array, chunks=(*(1,) * (array.ndim - 3), 2, 16, 16))
    kinds = {"c": "channel", "t": "time"}
    entries = [{"name": each, "type": kinds.get(each, "space")} for each in axes]
    scale = [{"type": "scale", "scale": [1.0] * array.ndim}]
    image = {
        "axes": entries,
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    labels = {"channels": [{"label": name} for name in NAMES]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image], "omero": labels}
    return file


def nifti(path: Path, axes: int = 5) -> Path:
    """Write channels as the fifth axis, or as the fourth, as nnU-Net does."""
    file = path / "cell.nii.gz"
    data = CZYX.transpose(3, 2, 1, 0)
    data = data[:, :, :, None] if axes == 5 else data
    nib.save(nib.Nifti1Image(data, np.diag([1, 1, 1, 1])), file)
    return file


WRITERS = {
    "ome.tif": ome_tiff,
    "ome.tif, compressed": lambda path: ome_tiff(path, compression="zlib"),
    "imagej tif": imagej_tiff,
    "hdf5": hdf5,
    "ome.zarr": ome_zarr,
    "nifti, 5 axes": nifti,
    "nifti, 4 axes": lambda path: nifti(path, 4),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_keeps_its_channels(tmp_path, kind):
    volume = open_volume(WRITERS[kind](tmp_path), channels=3)

    assert (volume.shape, volume.channels) == ((4, 20, 24), 3)
    np.testing.assert_array_equal(volume.read(), CZYX)
    part = volume.array[1:3, 2:, 3:9:2, ::-1]
    np.testing.assert_array_equal(part, CZYX[1:3, 2:, 3:9:2, ::-1])
    for number, one in enumerate(volume.each_channel()):
        np.testing.assert_array_equal(one.read(), CZYX[number])


@pytest.mark.parametrize("kind", WRITERS)
def test_channels_come_in_the_order_that_is_asked_for(tmp_path, kind):
    volume = read_volume(WRITERS[kind](tmp_path), channels=[2, 0])

    np.testing.assert_array_equal(volume.array, CZYX[[2, 0]])


@pytest.mark.parametrize("write", [ome_tiff, ome_zarr])
def test_channels_are_named_by_the_file(tmp_path, write):
    file = write(tmp_path)

    both = read_volume(file, channels=["tubulin", "dapi"])
    one = read_volume(file, channel="Actin")

    assert both.channel_names == ("tubulin", "DAPI")
    np.testing.assert_array_equal(both.array, CZYX[[2, 0]])
    assert one.channel_names == ("actin",)
    np.testing.assert_array_equal(one.array, CZYX[1])
    with pytest.raises(AxisError, match=r"called DAPI, actin, tubulin.*'membrane'"):
        open_volume(file, channels=["DAPI", "membrane"])
    with pytest.raises(AxisError, match=r"called DAPI, actin, tubulin.*choose it"):
        open_volume(file)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: ome_tiff(path, TCZYX, "TCZYX"),
        lambda path: ome_zarr(path, TCZYX, "tczyx"),
    ],
)
def test_a_time_point_of_several_channels_is_read(tmp_path, write):
    file = write(tmp_path)

    np.testing.assert_array_equal(read_volume(file, time=1, channels=3).array, TCZYX[1])
    one = read_volume(file, time=0, channel="actin").array
    np.testing.assert_array_equal(one, TCZYX[0, 1])
    with pytest.raises(AxisError, match=r"2 time points and 3 channels.*`time` \(0..1"):
        open_volume(file, channel=0)
    with pytest.raises(AxisError, match=r"time point 2 does not exist"):
        open_volume(file, time=2, channels=3)


@pytest.mark.parametrize("name", ["cell.png", "cell.tif", "packed.tif", "planar.tif"])
def test_colours_are_channels(tmp_path, name):
    file = tmp_path / name
    if name == "cell.png":
        Image.fromarray(RGB).save(file)
    elif name == "planar.tif":
        planes = np.ascontiguousarray(RGB.transpose(2, 0, 1))
        tifffile.imwrite(file, planes, photometric="rgb", planarconfig="separate")
    else:
        packed = "zlib" if name == "packed.tif" else None
        tifffile.imwrite(file, RGB, photometric="rgb", compression=packed)

    volume = read_volume(file, channels=3)

    assert volume.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(volume.array[:, 0], RGB.transpose(2, 0, 1))
    np.testing.assert_array_equal(
        read_volume(file, channel="blue").array[0], RGB[..., 2]
    )
    part = open_volume(file, channels=[2, 0]).array[:, :, 3:7, 5:]
    np.testing.assert_array_equal(part[:, 0], RGB[3:7, 5:, [2, 0]].transpose(2, 0, 1))


def test_slices_in_colour_are_a_volume_of_channels(tmp_path):
    stack = np.random.default_rng(4).integers(0, 255, (3, 20, 24, 3)).astype(np.uint8)
    for z, plane in enumerate(stack):
        Image.fromarray(plane).save(tmp_path / f"z{z}.png")

    volume = read_volume(tmp_path, channels=3)

    assert volume.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(volume.array, stack.transpose(3, 0, 1, 2))


def test_slices_whose_names_count_channels_are_a_volume_of_channels(tmp_path):
    for channel, z in np.ndindex(3, 4):
        tifffile.imwrite(tmp_path / f"z{z}_ch{channel:02d}.tif", CZYX[channel, z])

    volume = read_volume(tmp_path, channels=[0, 2])

    np.testing.assert_array_equal(volume.array, CZYX[[0, 2]])
    np.testing.assert_array_equal(read_volume(tmp_path, channel=1).array, CZYX[1])


def test_a_wrong_number_of_channels_is_refused_in_words(tmp_path):
    file = ome_tiff(tmp_path)
    grey = tmp_path / "grey.tif"
    tifffile.imwrite(grey, CZYX[0], photometric="minisblack")

    with pytest.raises(AxisError, match=r"3 channels, called DAPI.*expected 2"):
        open_volume(file, channels=2)
    with pytest.raises(AxisError, match=r"1 channel; expected 2"):
        open_volume(grey, channels=2)
    with pytest.raises(AxisError, match=r"name each channel once"):
        open_volume(file, channels=["DAPI", 0])
    with pytest.raises(ConfigError, match=r"only one of the two"):
        open_volume(file, channels=3, channel=0)


def test_a_list_of_one_channel_reads_a_volume_of_three_axes(tmp_path):
    volume = read_volume(ome_tiff(tmp_path), channels=["actin"])

    assert volume.channel_names == ("actin",)
    np.testing.assert_array_equal(volume.array, CZYX[1])


SUFFIXES = [".tif", ".ome.tif", ".h5", ".ome.zarr", ".nii", ".nii.gz"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_channels_are_written_with_their_names(tmp_path, suffix):
    spacing = Spacing(0.3, 0.2, 0.1)
    volume = Volume(CZYX, spacing, channel_names=tuple(NAMES))

    written = write_volume(tmp_path / f"cell{suffix}", volume)

    found = read_volume(written, channels=3)
    np.testing.assert_array_equal(found.array, CZYX)
    assert found.channel_names == tuple(NAMES)
    assert found.spacing.is_close(spacing, 1e-5)
    one = read_volume(written, channel="actin")
    np.testing.assert_array_equal(one.array, CZYX[1])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_time_points_are_written_into_one_file(tmp_path, suffix):
    spacing = Spacing(0.3, 0.2, 0.1)
    points = [Volume(each, spacing) for each in CZYX]

    written = write_times(tmp_path / f"cell{suffix}", points, labels=True)

    for number, point in enumerate(CZYX):
        found = read_volume(written, time=number)
        np.testing.assert_array_equal(found.array, point)
        assert found.spacing.is_close(spacing, 1e-5)
    assert found.provenance["times"] == 3


def test_other_programs_find_the_axes_that_were_written(tmp_path):
    volume = Volume(CZYX, Spacing(0.3, 0.2, 0.1), channel_names=tuple(NAMES))
    times = [Volume(each) for each in CZYX]
    write_volume(tmp_path / "c.tif", volume)
    write_volume(tmp_path / "c.ome.tif", volume)
    write_times(tmp_path / "t.tif", times, labels=True)

    expected = {"c.tif": ("ZCYX", [1, 0, 2, 3]), "c.ome.tif": ("CZYX", [0, 1, 2, 3])}
    expected["t.tif"] = ("TZYX", [0, 1, 2, 3])
    for name, (axes, order) in expected.items():
        with tifffile.TiffFile(tmp_path / name) as tif:
            assert tif.series[0].axes == axes
            np.testing.assert_array_equal(tif.asarray(), CZYX.transpose(order))
    with tifffile.TiffFile(tmp_path / "c.tif") as tif:
        assert (tif.imagej_metadata["channels"], tif.imagej_metadata["slices"]) == (
            3,
            4,
        )


def test_a_pyramid_halves_each_channel(tmp_path):
    long = np.zeros((2, 4, 4, 300), np.uint8)
    long[1] = np.arange(300, dtype=np.uint16) // 2
    written = write_volume(tmp_path / "cell.ome.zarr", Volume(long))

    found = read_volume(written, channels=2, level=1)

    assert found.shape == (2, 2, 150)
    np.testing.assert_array_equal(found.array[1, 0, 0], np.arange(150))
    assert not found.array[0].any()


@pytest.mark.parametrize("suffix", [".mrc", ".png", ""])
def test_a_format_of_one_volume_refuses_several_channels(tmp_path, suffix):
    array = CZYX[:, :1] if suffix == ".png" else CZYX

    with pytest.raises(FormatError, match=r"holds one volume, not 3 channels; choose"):
        write_volume(tmp_path / f"cell{suffix}", Volume(array))
    assert not list(tmp_path.iterdir())

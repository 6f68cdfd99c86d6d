"""Every reader against a second library, over a grid of variants that it writes."""

import io
import itertools
import struct
import zlib
from pathlib import Path

import h5py
import imagecodecs
import mrcfile
import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cellseg3d.io.names import series_of
from cellseg3d.io.registry import open_volume, read_labels, read_volume

few = settings(max_examples=10, deadline=None)
SHAPE = (3, 37, 21)


def numbers(dtype, shape=SHAPE, seed=0):
    """Return numbers of the whole range of a dtype."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(0, 1e3, shape).astype(kind)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    limits = np.iinfo(kind)
    native = kind.newbyteorder("=")
    found = rng.integers(limits.min, limits.max, shape, native, endpoint=True)
    found.flat[:2] = limits.min, limits.max
    return found.astype(kind)


def read_again(path, **options):
    """Return a volume read whole, after regions of it were compared with the whole."""
    whole = read_volume(path, **options).read()
    lazy = open_volume(path, **options).array
    key = (slice(0, None, 2), slice(5, 30, 3), slice(3, 20))
    np.testing.assert_array_equal(lazy[key], whole[key])
    return whole


# --- TIFF against tifffile


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "i2", "u4", "i8", "f2", "f4", "f8"])
def test_tiff_pages_agree_with_tifffile(tmp_path, dtype, tile, compression):
    image = numbers(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        image,
        photometric="minisblack",
        tile=tile,
        compression=compression,
        byteorder=">" if dtype.startswith(">") else "<",
        predictor=compression == "zlib" and dtype in ("u1", ">u2", "i2", "u4"),
    )

    np.testing.assert_array_equal(read_again(path), tifffile.imread(path))
    np.testing.assert_array_equal(read_again(path), image)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("rows", [None, 1, 5])
def test_volumetric_tiffs_agree_with_tifffile(tmp_path, dtype, compression, rows):
    image = numbers(dtype, (40, 37, 21))
    path = tmp_path / "a.tif"
    how = {"tile": (16, 16, 16)} if rows is None else {"rowsperstrip": rows}
    tifffile.imwrite(
        path,
        image,
        volumetric=True,
        photometric="minisblack",
        compression=compression,
        **how,
    )

    np.testing.assert_array_equal(read_again(path), image)


@pytest.mark.parametrize("bits", [2, 4, 7, 9, 12, 14])
def test_tiffs_of_odd_bit_depths_keep_their_numbers(tmp_path, bits):
    rng = np.random.default_rng(bits)
    kind = "u1" if bits <= 8 else "u2"
    image = rng.integers(0, 2**bits, SHAPE).astype(kind)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="minisblack", bitspersample=bits)

    np.testing.assert_array_equal(read_again(path), image)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("compression", [None, "packbits"])
def test_bits_are_1_where_viewers_show_white(tmp_path, photometric, compression):
    stored = numbers("?")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric=photometric, compression=compression)
    shown = np.stack([_as_pillow_shows(path, page) for page in range(len(stored))])

    np.testing.assert_array_equal(read_again(path), shown)


def _as_pillow_shows(path, page):
    with Image.open(path) as image:
        image.seek(page)
        return np.asarray(image.convert("L")) > 127


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("samples", [3, 4])
def test_each_colour_of_a_tiff_is_that_of_tifffile(
    tmp_path, planar, compression, samples
):
    axis = 3 if planar == "contig" else 1
    image = np.stack([numbers("u2", seed=c) for c in range(samples)], axis)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        image,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        extrasamples=["unassalpha"] if samples == 4 else None,
    )

    for channel in range(samples):
        np.testing.assert_array_equal(
            read_again(path, channel=channel), image.take(channel, axis)
        )


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_equal_colours_is_grey_as_a_png_is(tmp_path, planar, compression):
    grey = numbers("u2")
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.stack([grey] * 3, 3 if planar == "contig" else 1),
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
    )

    np.testing.assert_array_equal(read_again(path), grey)
    assert "grey" in open_volume(path).provenance["warnings"][0]


ORDERS = ["".join(order) for order in itertools.permutations("ZCT")]


@pytest.mark.parametrize("order", ORDERS)
def test_every_dimension_order_of_ome_agrees_with_tifffile(tmp_path, order):
    axes = f"{order}YX"
    lengths = {"Z": 3, "C": 2, "T": 1, "Y": 9, "X": 7}
    image = numbers("u2", [lengths[each] for each in axes])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, image, ome=True, metadata={"axes": axes})
    expected = image.take(0, axes.index("T"))
    expected = np.moveaxis(expected, axes.replace("T", "").index("C"), 0)

    for channel in range(2):
        found = read_volume(path, channel=channel).read()
        np.testing.assert_array_equal(found, expected[channel])


@pytest.mark.parametrize("letters", ["Z", "C", "T", "S"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_axis_is_slices_when_the_user_says_so(tmp_path, letters, compression):
    image = numbers("u1", (4, 9, 7))
    path = tmp_path / "a.tif"
    how = {"photometric": "rgb"} if letters == "S" else {"photometric": "minisblack"}
    if letters != "S":
        how["metadata"] = {"axes": f"{letters}YX"}
    tifffile.imwrite(path, image, compression=compression, **how)

    found = read_volume(path, read_as="slices")
    second = read_volume(path, read_as="times", channel=1)

    np.testing.assert_array_equal(found.read(), image)
    np.testing.assert_array_equal(second.read(), image[1:2])
    assert found.provenance["told"] == ["its axes are read as slices, as you say"]


# --- PNG against imagecodecs and Pillow


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_every_colour_type_of_png_agrees_with_imagecodecs(tmp_path, dtype, samples):
    shape = (37, 21) if samples == 1 else (37, 21, samples)
    image = numbers(dtype, shape)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(image))

    for channel in range(samples):
        expected = image if samples == 1 else image[..., channel]
        found = read_volume(path, channel=channel if samples > 1 else None)
        np.testing.assert_array_equal(found.read()[0], expected)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_ids_of_16_bits_in_equal_colours_are_exact(tmp_path, samples):
    ids = numbers("u2", (37, 21))
    opaque = [np.full_like(ids, 65535)] if samples in (2, 4) else []
    colours = [ids] * (samples - len(opaque))
    for name, folder in (("a.png", tmp_path), ("z0.png", tmp_path / "stack")):
        folder.mkdir(exist_ok=True)
        data = imagecodecs.png_encode(np.dstack(colours + opaque))
        (folder / name).write_bytes(data)
    (tmp_path / "stack" / "z1.png").write_bytes(data)

    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").read()[0], ids)
    stack = read_labels(tmp_path / "stack").read()
    np.testing.assert_array_equal(stack, np.stack([ids, ids]))


@pytest.mark.parametrize("colour", [0, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_pngs_of_few_bits_keep_their_numbers(tmp_path, bits, colour):
    image = np.arange(64).reshape(4, 16) % 2**bits
    data = small_png(image, bits, colour)
    path = tmp_path / "a.png"
    path.write_bytes(data)

    found = read_volume(path).read()[0]

    np.testing.assert_array_equal(found, image)
    if colour == 3:
        np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(data))))


def small_png(image, bits, colour):
    """Return a PNG of grey values or palette indices, packed by hand."""
    rows = []
    for row in image:
        text = "".join(f"{value:0{bits}b}" for value in row.tolist())
        rows.append(b"\0" + int(text, 2).to_bytes(len(text) // 8, "big"))
    height, width = image.shape
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    palette = bytes(np.random.default_rng(1).integers(0, 256, 3 * 2**bits, "u1"))
    parts = [(b"IHDR", header)]
    parts += [(b"PLTE", palette)] if colour == 3 else []
    parts += [(b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


# --- the others


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("mode", "kind"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2")])
@pytest.mark.parametrize("suffix", [".mrc", ".rec", ".st", ".mrcs", ".preali", ".map"])
def test_mrc_agrees_with_mrcfile(tmp_path, mode, kind, order, suffix):
    image = numbers(kind)
    path = tmp_path / f"a{suffix}"
    with mrcfile.new(path) as file:
        file.set_data(image.astype(np.dtype(kind)))
        file.voxel_size = (3.0, 2.0, 5.0)
    if order == ">":
        path.write_bytes(_swapped(path, image.itemsize))
    with mrcfile.open(path, permissive=True) as file:
        expected = np.array(file.data)

    found = read_volume(path)

    np.testing.assert_array_equal(found.read(), expected)
    np.testing.assert_allclose(found.spacing.zyx, (5e-4, 2e-4, 3e-4), rtol=1e-6)


def _swapped(path, itemsize):
    data = np.frombuffer(path.read_bytes(), "u1").copy()
    header = np.frombuffer(data[:1024].tobytes(), mrcfile.dtypes.HEADER_DTYPE)
    turned = header.astype(header.dtype.newbyteorder(">"))
    turned["machst"] = (0x11, 0x11, 0, 0)
    body = data[1024:].reshape(-1, itemsize)[:, ::-1]
    return turned.tobytes() + body.tobytes()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_agrees_with_nibabel(tmp_path, dtype, suffix, kind):
    image = numbers(dtype)
    path = tmp_path / f"a{suffix}"
    made = kind(
        image.transpose(2, 1, 0), np.diag([0.002, 0.003, 0.004, 1]), dtype=dtype
    )
    made.header.set_xyzt_units("mm")
    nib.save(made, path)
    expected = np.asarray(nib.load(path).dataobj).transpose(2, 1, 0)

    found = read_volume(path)

    np.testing.assert_array_equal(found.read(), expected)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found.spacing.zyx, (4, 3, 2), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "u8", "f2", "f8"])
@pytest.mark.parametrize(
    "packing", [{}, {"compression": "gzip"}, {"chunks": (2, 8, 8)}]
)
@pytest.mark.parametrize("suffix", [".h5", ".hdf", ".hdf5", ".ims"])
def test_hdf5_agrees_with_h5py(tmp_path, dtype, packing, suffix):
    path = tmp_path / f"a{suffix}"
    with h5py.File(path, "w") as file:
        file.create_dataset("deep/in/it", data=numbers(dtype).astype(dtype), **packing)
    with h5py.File(path) as file:
        expected = file["deep/in/it"][...]

    np.testing.assert_array_equal(read_again(path), expected)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "u8", "f2", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_zarr_agrees_with_zarr(tmp_path, dtype, version, order):
    if version == 3 and order == "F":
        pytest.skip("version 3 has no order of its own")
    path = tmp_path / "a.zarr"
    image = numbers(dtype).astype(dtype)
    how = {"order": order} if version == 2 else {}
    array = zarr.create_array(
        path,
        shape=image.shape,
        dtype=image.dtype,
        chunks=(2, 8, 8),
        zarr_format=version,
        **how,
    )
    array[:] = image

    np.testing.assert_array_equal(read_again(path), zarr.open_array(path)[:])
    np.testing.assert_array_equal(read_again(path), image)


@few
@given(
    values=hnp.arrays(
        np.uint64,
        (2, 3, 4),
        elements=st.integers(0, 2**64 - 1),
        fill=st.just(2**64 - 1),
    )
)
@pytest.mark.parametrize("suffix", [".tif", ".nii", ".h5", ".zarr"])
def test_ids_up_to_the_largest_are_exact(tmp_path_factory, suffix, values):
    path = tmp_path_factory.mktemp("ids") / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, values, photometric="minisblack")
    elif suffix == ".nii":
        turned = values.transpose(2, 1, 0)
        nib.save(nib.Nifti1Image(turned, np.eye(4), dtype="u8"), path)
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["ids"] = values
    else:
        zarr.create_array(path, shape=values.shape, dtype=values.dtype)[:] = values

    np.testing.assert_array_equal(read_labels(path).read(), values)


@few
@given(
    numbers_of=st.lists(st.integers(-500, 500), min_size=2, max_size=30, unique=True),
    width=st.integers(1, 4),
    head=st.sampled_from(["z", "cell-7_", "Series003_", "a.b ", "2024-05-01_z"]),
)
def test_slices_are_in_the_order_of_the_number_that_varies(numbers_of, width, head):
    mixed = min(numbers_of) < 0
    names = [
        f"{head}{'-' if number < 0 else ''}{abs(number):0{width}d}.png"
        for number in numbers_of
    ]
    all_below = max(numbers_of) < 0
    ordered = sorted(numbers_of, key=abs if all_below else None)

    found = series_of([Path(name) for name in names], Path("folder"))

    expected = [names[numbers_of.index(number)] for number in ordered]
    assert [file.name for file in found.files] == expected
    assert found.numbers == tuple(
        abs(number) if all_below and mixed else number for number in ordered
    )

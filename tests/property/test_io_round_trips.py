"""Whatever is written comes back: values, order, spacing, unit, and what it is."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import (
    open_volume,
    read_labels,
    read_volume,
    write_labels,
    write_volume,
)

DTYPES = {
    ".tif": ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"],
    ".ome.tif": ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"],
    ".nii": ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"],
    ".nii.gz": ["u1", "i2", "f4"],
    ".mrc": ["i1", "i2", "u2", "f2", "f4"],
    ".h5": ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"],
    ".zarr": ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"],
    "": ["u1", "u2"],
}
# Float32 headers and 32-bit rationals keep six digits and more.
TOLERANCE = 1e-6

edges = st.floats(1e-3, 50.0)
spacings = st.none() | st.builds(Spacing, edges, edges, edges)
shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)
few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def volumes(draw, suffix):
    dtype = np.dtype(draw(st.sampled_from(DTYPES[suffix])))
    limit = float(np.finfo("f2").max if dtype == "f2" else np.finfo("f4").max)
    elements = (
        st.floats(-limit, limit, width=8 * dtype.itemsize)
        if dtype.kind == "f"
        else hnp.from_dtype(dtype)
    )
    array = draw(hnp.arrays(dtype, draw(shapes), elements=elements))
    unit = draw(st.sampled_from(["1/um", "arbitrary"]))
    notes = {"simulated": True} if draw(st.booleans()) else {}
    return Volume(array, draw(spacings), unit, notes)


@pytest.mark.parametrize("suffix", DTYPES)
def test_writing_and_reading_changes_nothing(suffix):
    @few
    @given(volume=volumes(suffix))
    def check(volume):
        with tempfile.TemporaryDirectory() as folder:
            path = write_volume(Path(folder) / f"cell{suffix}", volume)
            found = read_volume(path)

        np.testing.assert_array_equal(found.array, volume.array)
        assert found.dtype == volume.dtype
        assert found.intensity_unit == volume.intensity_unit
        assert found.provenance.get("simulated") == volume.provenance.get("simulated")
        if volume.spacing is None:
            assert found.spacing is None
        else:
            assert found.spacing is not None
            assert found.spacing.is_close(volume.spacing, TOLERANCE)

    check()


@pytest.mark.parametrize("suffix", DTYPES)
@pytest.mark.parametrize(
    "shape", [(5, 7, 1), (5, 1, 7), (1, 7, 1), (5, 1, 1), (3, 4, 4)]
)
def test_shapes_that_look_like_colours_or_slices_are_kept(tmp_path, suffix, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(DTYPES[suffix][-1])

    found = read_volume(write_volume(tmp_path / f"cell{suffix}", Volume(array)))

    np.testing.assert_array_equal(found.array, array)


@pytest.mark.parametrize("suffix", DTYPES)
def test_a_region_read_alone_is_that_region_of_the_whole(suffix):
    sides = st.slices(7)

    @few
    @given(volume=volumes(suffix), key=st.tuples(sides, sides, sides))
    def check(volume, key):
        with tempfile.TemporaryDirectory() as folder:
            path = write_volume(Path(folder) / f"cell{suffix}", volume)
            part = open_volume(path).array[key]

        np.testing.assert_array_equal(part, volume.array[key])

    check()


@pytest.mark.parametrize("suffix", [".tif", ".nii", ".h5", ".zarr"])
def test_label_ids_are_never_changed(suffix):
    ids = hnp.arrays(np.int64, shapes, elements=st.integers(0, 2**40))

    @few
    @given(labels=ids)
    def check(labels):
        with tempfile.TemporaryDirectory() as folder:
            path = write_labels(Path(folder) / f"labels{suffix}", Volume(labels))
            found = read_labels(path)

        np.testing.assert_array_equal(found.array, labels)
        smallest = next(
            each
            for each in ("u1", "u2", "u4", "u8")
            if labels.max(initial=0) <= np.iinfo(each).max
        )
        assert found.dtype == np.dtype(smallest)

    check()

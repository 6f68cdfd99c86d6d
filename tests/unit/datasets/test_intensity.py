import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg3d.core.errors import ConfigError, FormatError, NonFiniteError
from cellseg3d.core.volume import Volume
from cellseg3d.datasets import intensity
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.datasets.voxel_sample import sample_rois, sample_voxels


class Lazy:
    """Voxels that count what is read of them."""

    def __init__(self, shape):
        self.shape, self.dtype, self.read = shape, np.dtype(np.float32), 0

    def __getitem__(self, key):
        z, y, x = (np.arange(n)[k] for n, k in zip(self.shape, key, strict=True))
        self.read += z.size * y.size * x.size
        grid = z[:, None, None] + y[None, :, None] + 0 * x
        return grid.astype(np.float32)


def test_percentiles_go_to_minus_one_and_one():
    array = np.arange(1001, dtype=np.uint16).reshape(7, 11, 13)
    scale = IntensityScale("percentile", 10, 90)

    offset, factor = scale.measure(Volume(array))

    assert (offset, factor) == (500, 2 / 800)
    scaled = scale.apply(array, offset, factor)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.flat[[100, 500, 900]], [-1, 0, 1], atol=1e-6)


def test_a_range_is_the_same_for_every_volume():
    scale = IntensityScale("range", 0.1, 0.5)
    dark = Volume(np.zeros((2, 3, 4), np.float32))

    offset, factor = scale.measure(dark)

    assert (offset, factor) == pytest.approx((0.3, 5.0))


def test_zscore_gives_mean_zero_and_deviation_one():
    array = np.random.default_rng(0).normal(100, 7, (9, 20, 30)).astype(np.float32)
    scale = IntensityScale("zscore")

    scaled = scale.apply(array, *scale.measure(Volume(array)))

    assert abs(scaled.mean()) < 0.01  # the clip at 3 takes a little away
    assert scaled.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("mode", ["percentile", "zscore"])
def test_a_constant_volume_becomes_zero_not_nan(mode):
    array = np.full((3, 3, 3), 40, np.uint8)
    scale = IntensityScale(mode)

    scaled = scale.apply(array, *scale.measure(Volume(array)))

    np.testing.assert_array_equal(scaled, 0)


def test_a_hot_pixel_is_clipped():
    scale = IntensityScale("range", 0, 2)

    np.testing.assert_array_equal(
        scale.apply(np.array([-1e9, 0, 2, 65535.0]), 1, 1), [-3, -1, 1, 3]
    )


def test_a_crop_is_scaled_as_the_whole_is():
    array = np.random.default_rng(1).integers(0, 65535, (6, 9, 8)).astype(np.uint16)
    scale = IntensityScale()
    offset, factor = scale.measure(Volume(array))

    whole = scale.apply(array, offset, factor)

    crop = (slice(1, 4), slice(2, 9), slice(0, 5))
    np.testing.assert_array_equal(scale.apply(array[crop], offset, factor), whole[crop])


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300)),
    st.integers(1, 5000),
)
def test_the_sample_lies_in_the_volume_and_is_small(shape, limit):
    rois = list(sample_rois(shape, limit))

    assert all(min(roi.start) >= 0 and roi.size > 0 for roi in rois)
    assert all(b <= n for r in rois for b, n in zip(r.stop, shape, strict=True))
    assert len(set(rois)) == len(rois)
    assert sum(roi.size for roi in rois) <= max(limit, 216)
    seen = [{roi.start[axis] for roi in rois} for axis in range(3)]
    if sum(roi.size for roi in rois) < np.prod(shape):
        assert [len(s) for s in seen] == [min(6, n) for n in shape]


def test_a_volume_larger_than_memory_is_measured_from_few_voxels():
    lazy = Lazy((5000, 4000, 6000))

    offset, _ = IntensityScale("percentile", 0, 100).measure(Volume(lazy))

    assert lazy.read <= 2_000_000
    assert offset == pytest.approx((5000 + 4000) / 2, rel=0.01)


def test_the_sample_does_not_depend_on_what_holds_the_voxels():
    lazy = Lazy((40, 500, 200))
    array = lazy[(slice(None),) * 3]

    np.testing.assert_array_equal(
        sample_voxels(Volume(lazy)), sample_voxels(Volume(array))
    )
    assert sample_voxels(Volume(array)).size < array.size


def test_nan_is_refused_with_the_file():
    array = np.ones((3, 3, 3), np.float32)
    array[1, 1, 1] = np.nan

    with pytest.raises(NonFiniteError, match=r"^v\.mrc: 1 of 27 sampled voxels"):
        IntensityScale().measure(Volume(array, provenance={"path": "v.mrc"}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mode": "minmax"}, "intensity mode 'minmax'"),
        ({"mode": "range", "lower": 2, "upper": 1}, "expected lower < upper"),
        ({"upper": 101}, "within 0 to 100"),
        ({"low": 1}, "unknown key 'low'"),
    ],
)
def test_a_wrong_setting_is_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        IntensityScale.parse(values)


def test_a_config_and_a_scale_say_the_same():
    scale = IntensityScale("range", 0.0, 1.0)

    assert IntensityScale.parse({"mode": "range", "lower": 0, "upper": 1}) == scale
    assert IntensityScale.parse(scale) is scale


def sparse(dtype):
    """An image of zeros and two voxels: its percentiles 0.5 and 99.5 coincide."""
    array = np.zeros((10, 100, 100), dtype)
    array[5, 50], array[6, 50] = 40, 5000
    return array


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_nearly_empty_image_keeps_its_contrast(dtype):
    array, scale = sparse(dtype), IntensityScale()

    found = scale.scaling_of(Volume(array))
    scaled = scale.apply(array, found.offset, found.factor)

    low, mid, high = scaled[0, 0, 0], scaled[5, 50, 0], scaled[6, 50, 0]
    assert -3 <= low < mid < high <= 3
    assert high - mid > 1
    assert "percentiles 0.5 and 99.5" in found.note


def test_a_few_bright_objects_are_not_cut_off():
    array = np.zeros((10, 100, 100), np.uint16)
    random = np.random.default_rng(0)
    array[:, :2, :] = random.integers(1, 3, (10, 2, 100))
    array[4:7, 50:56, 50:56] = random.integers(1000, 4000, (3, 6, 6))
    scale = IntensityScale()

    found = scale.scaling_of(Volume(array))
    scaled = scale.apply(array, found.offset, found.factor)

    assert len(np.unique(np.rint(scaled * 128))) >= 16
    assert found.note


def test_an_ordinary_image_is_scaled_as_before():
    array = np.random.default_rng(1).normal(100, 10, (20, 40, 40)).astype(np.float32)
    array[0, 0, 0] = 1e6  # a hot pixel must not decide
    low, high = np.percentile(array, [0.5, 99.5])

    found = IntensityScale().scaling_of(Volume(array))

    assert found.note == ""
    assert found.limits == pytest.approx((low, high))


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.float64])
@pytest.mark.parametrize("offset", [0, 4_000_000_000])
def test_an_offset_does_not_swallow_the_values(dtype, offset):
    values = np.arange(256).astype(dtype) + dtype(offset)
    array = np.resize(values, (8, 16, 16))
    plain = np.resize(np.arange(256, dtype=np.uint8), (8, 16, 16))
    scale = IntensityScale()

    scaled = scale.apply(array, *scale.measure(Volume(array)))

    expected = scale.apply(plain, *scale.measure(Volume(plain)))
    np.testing.assert_allclose(scaled, expected, atol=1e-5)
    assert len(np.unique(scaled)) == 256


def test_a_float_offset_beyond_its_range_is_taken_in_double():
    array = (1e6 + np.resize(np.arange(16) / 16, (8, 8, 8))).astype(np.float32)
    scale = IntensityScale()

    scaled = scale.apply(array, *scale.measure(Volume(array)))

    assert len(np.unique(scaled)) == len(np.unique(array))


def test_signal_that_the_sample_misses_is_found(monkeypatch):
    array = np.zeros((30, 40, 40), np.uint16)
    array[1, 1, 1] = 900
    monkeypatch.setattr(intensity, "sample_voxels", lambda _: np.zeros(1000, np.uint16))

    found = IntensityScale().scaling_of(Volume(array))

    assert found.limits == pytest.approx((0, 900))
    assert "extremes" in found.note


def test_a_constant_volume_says_so():
    found = IntensityScale().scaling_of(Volume(np.full((4, 5, 6), 7, np.uint8)))

    assert (found.offset, found.factor) == (7, 1)
    assert found.note == "every voxel is 7"


SIGNAL = np.random.default_rng(0).random((20, 40, 40))


def levels(array):
    """Return how many steps of 1/128 the scaled values fill, and their note."""
    scale = IntensityScale()
    found = scale.scaling_of(Volume(array))
    scaled = scale.apply(array, found.offset, found.factor)
    assert np.isfinite(scaled).all()
    return len(np.unique(np.rint(scaled * 128))), found.note


@pytest.mark.parametrize("filling", [-9999.0, -3.4e38, 1e30])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_filling_far_outside_of_the_signal_does_not_swallow_it(filling, share):
    array = SIGNAL.astype(np.float32)
    array[share > SIGNAL] = filling

    count, note = levels(array)

    assert count > 20
    assert f"{share:.0%} of its voxels are {filling:g}" in note


def test_two_fillings_are_left_out():
    array = (SIGNAL * 500 + 700).astype(np.int32)
    array[:8], array[8:12] = np.iinfo(np.int32).min, 2**30

    count, note = levels(array)

    assert count > 200
    assert "60% of its voxels are -2.14748e+09 or 1.07374e+09" in note


def test_two_narrow_groups_of_values_are_scaled_as_before():
    array = np.where(SIGNAL < 0.7, 100, 4000) + (SIGNAL * 100 % 10).astype(np.int64)

    assert IntensityScale().scaling_of(Volume(array)).note == ""


def test_yes_and_no_are_scaled_as_1_and_0():
    assert levels(SIGNAL < 0.5) == levels((SIGNAL < 0.5).astype(np.uint8)) == (2, "")


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e30, 3e38])
def test_values_at_the_ends_of_float32_are_scaled(size):
    assert levels((SIGNAL * size).astype(np.float32))[0] > 100


@pytest.mark.parametrize(
    ("dtype", "offset"), [("i8", 2 * 10**18), ("u8", 10**19), ("i8", -(2**62))]
)
def test_integers_that_doubles_do_not_tell_apart_are_refused(dtype, offset):
    near = (SIGNAL * 255).astype(dtype) + np.array(offset, dtype)
    far = (SIGNAL * 1e18).astype(dtype)

    with pytest.raises(FormatError, match=f"between {offset} and .*subtract a con"):
        IntensityScale().scaling_of(Volume(near))
    assert levels(far)[0] > 100


@pytest.mark.parametrize(
    ("scale", "array"),
    [
        (IntensityScale("range", 0, 0.6), (SIGNAL * 60_000 + 10).astype(np.uint16)),
        (IntensityScale("zscore"), np.where(SIGNAL > 0.9999, 1e9, SIGNAL)),
    ],
)
def test_a_scale_that_swallows_the_signal_is_told(scale, array):
    note = scale.scaling_of(Volume(array)).note

    assert "different values of" in note
    assert scale.scaling_of(Volume(SIGNAL)).note == ""

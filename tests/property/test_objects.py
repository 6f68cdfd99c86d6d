"""Objects do not depend on blocks, and equal what the whole volume says."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, generate_binary_structure, label

from cellseg3d.core.spacing import Spacing
from cellseg3d.objects.dask_map import dask_map
from cellseg3d.objects.label import label_objects
from cellseg3d.objects.options import METHODS, ObjectOptions
from cellseg3d.parallel.dask_client import open_client

SPACINGS = [None, Spacing(0.3, 0.1, 0.1), Spacing(0.05, 0.0046, 0.0046)]
EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def blobs(shape, seed, density, smooth):
    """Random overlapping lumps: the probabilities of a foreground, in [0, 1]."""
    noise = np.random.default_rng(seed).random(shape)
    field = gaussian_filter(noise, smooth)
    rank = field.ravel().argsort().argsort().reshape(shape) / field.size
    return np.clip(rank + density - 0.5, 0, 1).astype(np.float32)


shapes = st.tuples(st.integers(1, 23), st.integers(3, 29), st.integers(3, 29))
sides = st.tuples(*[st.integers(2, 31)] * 3)


CASES = given(
    grid=st.tuples(shapes, sides, st.sampled_from(SPACINGS)),
    content=st.tuples(st.integers(0, 999), st.floats(0.2, 0.8), st.floats(0.3, 2.5)),
    method=st.sampled_from(METHODS),
    clean=st.booleans(),
)


def options_of(method, spacing, *, clean):
    edge = 1.0 if spacing is None else min(spacing.zyx)
    voxel = 1.0 if spacing is None else spacing.voxel_volume_um3
    return ObjectOptions(
        method=method,
        min_volume_um3=5 * voxel * clean,
        hole_um=3 * edge * clean,
        smoothing_um=0.8 * edge * clean,
        max_radius_um=5 * edge,
        mean_volume_um3=40 * voxel,
        strong_affinity=0.7,
    )


def source_of(shape, content, method):
    seed, density, smooth = content
    channels = 3 if method in ("affinity", "border-core") else 1
    return np.stack([blobs(shape, seed + k, density, smooth) for k in range(channels)])


@EXAMPLES
@CASES
def test_objects_are_the_same_whatever_the_block(grid, content, method, clean):
    shape, block, spacing = grid
    options = options_of(method, spacing, clean=clean)
    source = source_of(shape, content, method)

    whole = label_objects(source, spacing, options, block=64)
    cut = label_objects(source, spacing, options, block=block)

    np.testing.assert_array_equal(cut.volume.array, whole.volume.array)
    np.testing.assert_array_equal(cut.volumes, whole.volumes)


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of Dask."""
    pytest.importorskip("distributed")
    with open_client("local:2") as client:
        yield client


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@EXAMPLES
@CASES
def test_objects_are_the_same_on_a_cluster(cluster, grid, content, method, clean):
    shape, block, spacing = grid
    options = options_of(method, spacing, clean=clean)
    source = source_of(shape, content, method)

    whole = label_objects(source, spacing, options, block=64)
    far = label_objects(
        source, spacing, options, block=block, map_blocks=dask_map(cluster)
    )

    np.testing.assert_array_equal(far.volume.array, whole.volume.array)
    np.testing.assert_array_equal(far.volumes, whole.volumes)


@EXAMPLES
@given(
    shape=shapes,
    block=sides,
    seed=st.integers(0, 999),
    connectivity=st.sampled_from([6, 18, 26]),
)
def test_blockwise_components_are_those_of_the_whole_volume(
    shape, block, seed, connectivity
):
    classes = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    options = ObjectOptions(method="components", connectivity=connectivity)

    found = label_objects(classes, None, options, block=block).volume.array

    structure = generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    expected = np.zeros(shape, np.int64)
    for value in (1, 2):
        part, _ = label(classes == value, structure)
        expected += np.where(part > 0, part + expected.max(), 0)
    np.testing.assert_array_equal(found, numbered_by_first_voxel(expected))


@EXAMPLES
@given(shape=shapes, seed=st.integers(0, 999), method=st.sampled_from(["watershed"]))
def test_ids_rise_with_the_first_voxel_and_none_is_lost(shape, seed, method):
    probs = blobs(shape, seed, 0.5, 1.0)

    found = label_objects(probs, None, method, block=9)

    ids = found.volume.array
    np.testing.assert_array_equal(ids, numbered_by_first_voxel(ids))
    np.testing.assert_array_equal(ids > 0, probs >= 0.5)
    np.testing.assert_array_equal(np.bincount(ids.ravel())[1:], found.volumes)


def numbered_by_first_voxel(labels):
    """Brute force: give out 1, 2, ... in the order in which voxels are met."""
    seen = {0: 0}
    flat = [seen.setdefault(int(value), len(seen)) for value in labels.ravel()]
    return np.array(flat).reshape(labels.shape)


@pytest.mark.parametrize("method", ["components", "watershed"])
def test_an_empty_volume_holds_no_object(method):
    found = label_objects(np.zeros((4, 5, 6), np.uint8), None, method, block=3)

    assert found.count == 0
    assert found.volume.array.dtype == np.uint8
    assert not found.volume.array.any()

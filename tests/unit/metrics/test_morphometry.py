"""Measurements of bodies whose size, area and axes are known."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg3d.core.errors import LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics import object_sums
from cellseg3d.metrics.cell_area import crofton_areas, direction_weights, mesh_areas
from cellseg3d.metrics.morphometry import measure_objects, summarise_objects
from cellseg3d.metrics.parents import boundary_distance, most_common


def ellipsoid(radii_um, spacing):
    """A centred ellipsoid with a voxel of background around it."""
    half = [
        int(radius / edge) + 2 for radius, edge in zip(radii_um, spacing, strict=True)
    ]
    z, y, x = np.ogrid[tuple(slice(-n, n + 1) for n in half)]
    scaled = zip((z, y, x), spacing, radii_um, strict=True)
    return (sum((i * e / r) ** 2 for i, e, r in scaled) <= 1).astype(np.uint8)


def only(table):
    assert len(table["id"]) == 1
    return {name: column[0] for name, column in table.items()}


@pytest.mark.parametrize("edges", [(1, 1, 1), (2.5, 1, 1), (0.5, 1, 1.5)])
def test_a_ball_has_the_volume_area_and_roundness_of_a_ball(edges):
    radius = 20.0

    ball = only(measure_objects(ellipsoid([radius] * 3, edges), Spacing(*edges)))

    # A ball of 20 steps: 1 % in volume, 2 % in the estimated area.
    assert ball["volume_um3"] == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)
    assert ball["surface_area_crofton_um2"] == pytest.approx(
        4 * np.pi * radius**2, rel=0.02
    )
    assert ball["sphericity"] == pytest.approx(1.0, abs=0.02)
    assert ball["elongation"] == pytest.approx(1.0, abs=0.02)
    assert ball["axis1_um"] == pytest.approx(2 * radius, rel=0.01)


def test_the_axes_of_an_ellipsoid_have_their_lengths_and_directions():
    found = only(measure_objects(ellipsoid((8, 24, 12), (1, 1, 1)), Spacing(1, 1, 1)))

    axes = [found[f"axis{i}_um"] for i in (1, 2, 3)]
    assert axes == pytest.approx([48, 24, 16], rel=0.02)
    assert found["elongation"] == pytest.approx(3.0, rel=0.02)
    assert [found[f"axis1_{c}"] for c in "zyx"] == pytest.approx([0, 1, 0], abs=1e-6)
    assert [found[f"axis3_{c}"] for c in "zyx"] == pytest.approx([1, 0, 0], abs=1e-6)


def test_a_box_is_measured_exactly():
    labels = np.zeros((10, 12, 14), np.uint16)
    labels[2:6, 3:8, 4:14] = 300
    image = np.zeros(labels.shape, np.float32)
    image[labels > 0] = 1e6 + np.arange(200) % 2

    found = only(measure_objects(labels, Spacing(2, 1, 0.5), image))

    assert found["id"] == 300
    assert (found["voxels"], found["volume_um3"]) == (200, 200.0)
    assert [found[k] for k in ("z0", "z1", "y0", "y1", "x0", "x1")] == [
        *(2, 6, 3, 8, 4, 14)
    ]
    centre = [found[f"centroid_{c}_um"] for c in "zyx"]
    assert centre == pytest.approx([7.0, 5.0, 4.25])
    assert found["touches_border"]
    assert found["border_distance_um"] == 0.0
    assert found["mean_intensity"] == pytest.approx(1e6 + 0.5)
    assert found["sd_intensity"] == pytest.approx(0.5, rel=1e-6)


def test_one_voxel_is_an_octahedron_of_mesh_and_has_axes():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1, 1] = 1

    found = only(measure_objects(labels, Spacing(1, 1, 1)))

    # Eight equilateral triangles through the midpoints: 8 * sqrt(3) / 8.
    assert found["surface_area_um2"] == pytest.approx(math.sqrt(3))
    assert found["axis1_um"] == pytest.approx(2 * math.sqrt(5 / 12))
    assert not found["touches_border"]
    assert found["border_distance_um"] == 1.0


def test_a_flat_plate_has_the_area_of_its_two_faces():
    labels = np.zeros((4, 102, 102), np.uint8)
    labels[1:3, 1:-1, 1:-1] = 1

    area = only(measure_objects(labels, Spacing(1, 1, 1)))["surface_area_um2"]

    # 2 * 100^2 and a rim of 4 * 100 * 2, less what the rounded edges lose.
    assert area == pytest.approx(2 * 100**2 + 800, rel=0.02)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    slab=st.integers(1, 90),
)
def test_slabs_change_nothing(seed, shape, slab):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 0, 1, 2, 70_000], shape).astype(np.uint32)
    image = rng.normal(5, 1, shape)
    spacing = Spacing(2, 1, 0.5)
    whole = measure_objects(labels, spacing, image)

    before = object_sums.SLAB_VOXELS
    object_sums.SLAB_VOXELS = slab
    try:
        cut = measure_objects(labels, spacing, image)
    finally:
        object_sums.SLAB_VOXELS = before

    assert list(cut) == list(whole)
    for name, column in whole.items():
        if not name.startswith("axis"):  # directions of equal axes are arbitrary
            np.testing.assert_allclose(cut[name], column, rtol=1e-9, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_objects_side_by_side_measure_as_if_alone(seed, shape):
    labels = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    together = measure_objects(labels, Spacing(3, 2, 1))

    for row, value in enumerate(together["id"]):
        alone = only(measure_objects(labels == value, Spacing(3, 2, 1)))
        assert alone["voxels"] == (labels == value).sum()
        for name in ("surface_area_um2", "surface_area_crofton_um2", "axis1_um"):
            assert together[name][row] == pytest.approx(alone[name])


def test_the_areas_of_a_cell_do_not_know_inside_from_outside_on_average():
    spacing = Spacing(2, 1, 1)

    assert sum(direction_weights(spacing).values()) == pytest.approx(1)
    np.testing.assert_allclose(crofton_areas(spacing), crofton_areas(spacing)[::-1])
    assert mesh_areas(spacing)[0] == mesh_areas(spacing)[255] == 0
    assert (mesh_areas(spacing)[1:255] > 0).all()


def test_no_objects_give_no_rows():
    table = measure_objects(np.zeros((3, 4, 5), np.uint8), Spacing(1, 1, 1))

    assert {len(column) for column in table.values()} == {0}


def test_without_a_spacing_no_length_is_invented():
    found = only(measure_objects(ellipsoid((5, 5, 5), (1, 1, 1))))

    assert math.isnan(found["volume_um3"])
    assert math.isnan(found["surface_area_um2"])
    assert math.isnan(found["axis1_um"])
    assert found["voxels"] == 515
    assert 0.9 < found["sphericity"] <= 1


def test_one_slice_touches_only_with_its_outline():
    labels = np.zeros((1, 6, 6), np.uint8)
    labels[0, 2:4, 2:4] = 1
    labels[0, 0, 5] = 2

    table = measure_objects(labels, Spacing(1, 1, 1))

    assert table["touches_border"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full((1, 2, 2), -1, np.int16), "-1"),
        (np.zeros((1, 2, 2), np.float32), "float32"),
    ],
)
def test_what_is_no_id_is_refused(labels, words):
    with pytest.raises(LabelError, match=words):
        measure_objects(labels)


def test_an_image_of_another_shape_is_refused():
    with pytest.raises(LabelError, match="does not fit"):
        measure_objects(np.zeros((1, 2, 2), np.uint8), image=np.zeros((1, 2, 3)))


def test_a_summary_gives_n_mean_and_spread_by_class():
    labels = np.zeros((1, 1, 12), np.uint8)
    labels[0, 0, :2], labels[0, 0, 3:7], labels[0, 0, 8:9] = 1, 2, 3
    table = measure_objects(labels, Spacing(1, 1, 1))
    table["class"] = np.array(["a", "a", "b"])

    first, second = summarise_objects(table, "class")

    assert (first["class"], first["n"], first["voxels_mean"]) == ("a", 2, 3.0)
    assert first["voxels_sd"] == pytest.approx(math.sqrt(2))
    assert first["total_volume_um3"] == 6.0
    assert (second["n"], second["n_touching_border"]) == (1, 0)
    assert math.isnan(second["voxels_sd"])


def test_an_object_belongs_to_the_parent_that_holds_most_of_it():
    objects = np.array([[[1, 1, 1, 2, 2, 3, 0]]], np.uint8)
    parents = np.array([[[8, 8, 9, 9, 0, 0, 9]]], np.uint16)

    values, shares = most_common(objects, parents, np.array([1, 2, 3]))

    assert values.tolist() == [8, 9, 0]
    assert shares == pytest.approx([2 / 3, 1 / 2, 0])


def test_the_distance_to_the_parents_boundary_is_physical():
    parents = np.zeros((9, 20, 20), np.uint8)
    parents[:, 2:12, 2:18] = 1
    parents[:, 12:18, 2:18] = 2  # touches the first: a boundary too
    objects = np.zeros_like(parents)
    objects[4, 5:7, 8] = 4  # rows 5, 6; the boundary rows of parent 1 are 2 and 11
    objects[4, 12, 8] = 7

    found = boundary_distance(objects, parents, np.array([4, 7]), Spacing(5, 0.5, 9))

    assert found.tolist() == [1.5, 0.0]


def test_distances_are_the_same_without_the_extra(monkeypatch):
    pytest.importorskip("edt")
    parents = ellipsoid((9, 12, 15), (1, 1, 1))
    objects = np.zeros(parents.shape, np.uint8)
    objects[9:12, 12:15, 14:17] = 3
    inputs = objects, parents, np.array([3]), Spacing(2, 1, 0.5)
    fast = boundary_distance(*inputs)

    monkeypatch.setitem(sys.modules, "edt", None)
    slow = boundary_distance(*inputs)

    assert fast[0] > 3
    np.testing.assert_allclose(fast, slow, rtol=1e-6)

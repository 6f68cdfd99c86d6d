import numpy as np
import pytest
from scipy import ndimage

from cellseg3d.simulate.cell import build_cell, volumes_um3
from cellseg3d.simulate.components import (
    CLASSES,
    CYTOPLASM,
    LABEL_MAP,
    LABEL_NAMES,
    LAC_PER_UM,
    LIPID_DROPLET,
    MITOCHONDRION,
    NUCLEUS,
    VESICLE,
    draw_palette,
)

SPACING = 0.05
MOUNTS = ["capillary", "grid"]


def cell_of(mount, seed=0, shape=(72, 64, 80)):
    return build_cell(shape, SPACING, mount, np.random.default_rng(seed))


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_cell_holds_every_component(mount):
    found = set().union(*(np.unique(cell_of(mount, s).labels) for s in range(2)))

    assert found == set(LABEL_NAMES)


@pytest.mark.parametrize("mount", MOUNTS)
def test_cytoplasm_lies_between_the_nucleus_and_the_outside(mount):
    for seed in range(3):
        labels = cell_of(mount, seed).labels

        around = ndimage.binary_dilation(labels == NUCLEUS, iterations=2)

        assert (labels == NUCLEUS).sum() > 1000
        assert not (around & (labels == 0)).any()


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_cell_is_one_piece_away_from_the_borders(mount):
    labels = cell_of(mount, 3).labels

    _, pieces = ndimage.label(labels > 0)
    inner = labels[1:-1, 1:-1, 1:-1]

    assert pieces == 1
    assert np.count_nonzero(inner) == np.count_nonzero(labels)


def test_each_component_has_the_coefficient_drawn_for_it():
    cell = cell_of("capillary", 1)

    inside = ndimage.binary_erosion(cell.labels > 0, iterations=3)
    means = {
        value: cell.lac[(cell.labels == value) & inside].mean()
        for value in (CYTOPLASM, LIPID_DROPLET, VESICLE, MITOCHONDRION)
    }

    # Organelles differ from the palette by 4 % each, and few lie in one cell.
    for value, mean in means.items():
        assert mean == pytest.approx(cell.palette[LABEL_NAMES[value]], rel=0.08)


def test_a_nucleus_is_mottled_between_its_two_chromatins():
    cell = cell_of("capillary", 2)
    core = ndimage.binary_erosion(cell.labels == NUCLEUS, iterations=3)
    low, high = cell.palette["euchromatin"], cell.palette["heterochromatin"]

    lac = cell.lac[core]

    assert low <= lac.min() < low + 0.2 * (high - low)
    assert low + 0.2 * (high - low) < lac.mean() < high
    assert lac.std() > 0.15 * (high - low)


def test_a_capillary_is_glass_around_ice_in_a_vacuum():
    cell = cell_of("capillary")
    outside = cell.labels == 0

    values = set(np.unique(cell.lac[outside]))

    expected = {0.0, cell.palette["ice"], cell.palette["glass"]}
    assert values == {np.float32(value) for value in expected}
    assert not cell.layers_per_um.any()


def test_a_grid_runs_on_beyond_the_volume():
    cell = cell_of("grid")
    outside = cell.labels == 0

    layers = np.broadcast_to(cell.layers_per_um[:, None, None], cell.lac.shape)

    np.testing.assert_array_equal(cell.lac[outside], layers[outside])
    assert cell.layers_per_um.max() > 0.5
    assert (cell.layers_per_um == np.float32(cell.palette["ice"])).sum() > 30


def test_volumes_are_counted_in_cubic_micrometres():
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:2] = NUCLEUS
    labels[2, :5] = MITOCHONDRION

    volumes = volumes_um3(labels, 0.1)

    assert volumes["nucleus"] == pytest.approx(0.2)
    assert volumes["mitochondrion"] == pytest.approx(0.05)
    assert volumes["cytoplasm"] == 0
    assert "background" not in volumes


def test_organelles_take_a_plausible_share_of_the_cytoplasm():
    for seed in range(3):
        volumes = volumes_um3(cell_of("capillary", seed).labels, SPACING)
        around = sum(volumes.values()) - volumes["nucleus"]

        assert 0.05 < volumes["mitochondrion"] / around < 0.16
        assert 0.003 < volumes["lipid droplet"] / around < 0.05
        assert volumes["nucleus"] / sum(volumes.values()) > 0.08


def test_palettes_stay_in_their_ranges_and_differ():
    palettes = [draw_palette(np.random.default_rng(seed)) for seed in range(50)]

    for name, (low, high) in LAC_PER_UM.items():
        drawn = np.array([palette[name] for palette in palettes])
        assert low <= drawn.min() < drawn.max() <= high
        assert drawn.std() > 0.15 * (high - low)
    assert all(p["heterochromatin"] > p["euchromatin"] + 0.06 for p in palettes)


def test_every_label_value_has_a_class():
    assert set(LABEL_MAP) == set(LABEL_NAMES)
    assert set(LABEL_MAP.values()) == set(range(len(CLASSES)))
    assert CLASSES[LABEL_MAP[MITOCHONDRION]] == "mitochondrion"
    assert CLASSES[LABEL_MAP[LIPID_DROPLET]] == "cytoplasm"

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cellseg3d.core.errors import ConfigError
from cellseg3d.simulate.acquisition import Scan, scan_for
from cellseg3d.simulate.case import simulate_case
from cellseg3d.simulate.components import CYTOPLASM, MITOCHONDRION, NUCLEUS

PERFECT = Scan(
    tilt_step_deg=1, photons=0, blur_pixels=0, drift_pixels=0, flicker=0, gain=0
)


@pytest.mark.parametrize("mount", ["capillary", "grid"])
def test_a_seed_gives_the_same_bits_for_any_number_of_threads(mount):
    one, two = (simulate_case((48, 72, 56), 7, mount=mount, workers=n) for n in (1, 3))

    assert one.tomogram.read().tobytes() == two.tomogram.read().tobytes()
    assert one.labels.read().tobytes() == two.labels.read().tobytes()
    assert one.lac_per_um == two.lac_per_um


def test_another_seed_gives_another_cell():
    one, two = (simulate_case(48, seed) for seed in (0, 1))

    changed = np.count_nonzero(one.labels.read() != two.labels.read())

    assert changed > 0.02 * 48**3
    assert one.lac_per_um != two.lac_per_um


def test_a_perfect_scan_shows_the_true_coefficients():
    case = simulate_case(64, 1, scan=PERFECT)
    labels, tomogram = case.labels.read(), case.tomogram.read()

    for value, name in ((CYTOPLASM, "cytoplasm"), (MITOCHONDRION, "mitochondrion")):
        core = ndimage.binary_erosion(labels == value, iterations=2)
        assert core.sum() > 30
        # Organelles differ by 4 % from one another; the Hann window blurs the rest.
        assert tomogram[core].mean() == pytest.approx(case.lac_per_um[name], rel=0.08)
    core = ndimage.binary_erosion(labels == NUCLEUS, iterations=2)
    low = case.lac_per_um["euchromatin"]
    assert low < tomogram[core].mean() < case.lac_per_um["nucleolus"]


def test_no_threshold_finds_the_nucleus():
    scores = []
    for seed in range(3):
        case = simulate_case(64, seed)
        labels, tomogram = case.labels.read(), case.tomogram.read()
        nucleus, inside = labels == NUCLEUS, labels > 0
        cuts = np.percentile(tomogram[inside], np.arange(2, 99, 4))
        found = [inside & (tomogram < cut) for cut in cuts]
        found += [inside & (tomogram > cut) for cut in cuts]
        scores += [
            2 * (nucleus & guess).sum() / (nucleus.sum() + guess.sum())
            for guess in found
        ]

    # Even inside a known cell; texture and shape have to tell.
    assert max(scores) < 0.85


@pytest.mark.parametrize("mount", ["capillary", "grid"])
def test_volumes_say_that_they_are_simulated(mount):
    case = simulate_case(32, 5, 0.06, mount=mount)

    for volume in (case.tomogram, case.labels):
        assert volume.provenance["simulated"] is True
        assert volume.provenance["seed"] == 5
        assert volume.provenance["mount"] == mount
        assert volume.spacing.zyx == (0.06, 0.06, 0.06)
    assert case.tomogram.intensity_unit == "1/um"
    assert case.tomogram.dtype == np.float32
    assert case.labels.dtype == np.uint8
    assert case.tomogram.provenance["photons"] == scan_for(mount).photons


def test_true_volumes_are_those_of_the_labels():
    case = simulate_case((40, 44, 48), 2, 0.05)

    counted = np.count_nonzero(case.labels.read()) * 0.05**3

    assert sum(case.volumes_um3.values()) == pytest.approx(counted)
    assert case.volumes_um3["nucleus"] > 0.05


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shape": 16, "seed": 0}, "at least 24 voxels"),
        ({"shape": 48, "seed": -1}, "seed is -1"),
        ({"shape": 48, "seed": 0, "spacing_um": 50}, "voxel edge is 50 um"),
        ({"shape": 48, "seed": 0, "mount": "slide"}, "mount is 'slide'"),
        ({"shape": 48, "seed": 0, "mount": "grid", "scan": Scan()}, "-80 to 80"),
    ],
)
def test_cases_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        simulate_case(**arguments)


def test_a_scan_of_ones_own_is_used():
    few = replace(scan_for("capillary"), photons=200)

    noisy, usual = (simulate_case(48, 0, scan=scan) for scan in (few, None))

    outside = usual.labels.read() == 0
    assert noisy.tomogram.read()[outside].std() > usual.tomogram.read()[outside].std()
    np.testing.assert_array_equal(noisy.labels.read(), usual.labels.read())

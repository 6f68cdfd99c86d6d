"""Volumes of the training's kind fit its profile; others are told apart, in words."""

import os
from pathlib import Path

import numpy as np
import pytest

from cellseg3d.core.volume import Volume
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.datasets.likeness import distance, profile_of, unlike, volume_features
from cellseg3d.io.registry import read_volume
from cellseg3d.simulate.conditions import NAMED, simulate_under

SCALE = IntensityScale()


@pytest.fixture(scope="module")
def tomograms():
    return [
        volume_features(simulate_under(NAMED["usual"], seed).tomogram, SCALE)
        for seed in range(4)
    ]


def test_another_cell_of_the_same_kind_fits(tomograms):
    profile = profile_of(tomograms)
    other = simulate_under(NAMED["other instrument"], 9).tomogram

    assert unlike(volume_features(other, SCALE), profile) == []


def test_gain_and_offset_of_a_detector_change_no_feature():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 40, 40)).astype(np.float32)

    one = volume_features(Volume(values), SCALE)
    two = volume_features(Volume(values * 50 + 1000), SCALE)

    assert two == pytest.approx(one, abs=1e-3)


def test_noise_alone_is_unlike_a_tomogram_and_is_said_to_be(tomograms):
    rng = np.random.default_rng(0)
    noise = Volume(rng.normal(size=(40, 60, 60)).astype(np.float32))

    found = unlike(volume_features(noise, SCALE), profile_of(tomograms))

    assert "its structures have another size in voxels" in found


def test_white_noise_has_the_features_that_theory_gives():
    rng = np.random.default_rng(0)
    noise = Volume(rng.normal(size=(24, 128, 128)).astype(np.float32))

    found = volume_features(noise, SCALE)

    # Neighbours do not correlate, and a Laplacian over the root of 20 has the spread
    # of the noise itself.
    assert found["texture_plane_1"] == pytest.approx(0, abs=0.01)
    assert found["noise_plane"] == pytest.approx(1, abs=0.03)
    assert found["edge_strength"] == pytest.approx(1, abs=0.03)


def test_a_constant_volume_and_a_single_slice_can_be_measured(tomograms):
    flat = volume_features(Volume(np.ones((1, 30, 30), np.float32)), SCALE)

    assert flat["brightness_spread"] == 0
    assert "texture_z_1" not in flat
    assert distance(flat, profile_of(tomograms)) > 1


@pytest.mark.data
def test_electron_micrographs_do_not_look_like_tomograms(tomograms):
    folder = os.environ.get("CELLSEG3D_DATA")
    if not folder:
        pytest.skip("CELLSEG3D_DATA names no folder of labelled volumes")
    profile = profile_of(tomograms)

    for name in ("vnc_sstem/TL_image.tif", "cdeep3m_mito/z010-029_TL_image.tif"):
        image = read_volume(Path(folder) / name)
        assert unlike(volume_features(image, SCALE), profile) != []

"""Decoders are tuned where it is allowed, and it helps."""

import numpy as np
import pytest

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.spacing import Spacing
from cellseg3d.objects.options import ObjectOptions
from cellseg3d.objects.tuning import TuningCase, tune_decoder

SPACING = Spacing(0.2, 0.1, 0.1)


def bumpy(seed):
    """Two ellipsoids that touch, with rough borders; truth and foreground."""
    z, y, x = np.indices((20, 40, 60))
    rng = np.random.default_rng(seed)
    truth = np.zeros(z.shape, np.uint8)
    for index, centre in enumerate((20, 38)):
        shape = ((z - 10) / 5) ** 2 + ((y - 20) / 14) ** 2 + ((x - centre) / 11) ** 2
        near = (x < 29) if index == 0 else (x >= 29)
        truth[(shape + 0.3 * rng.random(z.shape) < 1.1) & near] = index + 1
    return truth


def case(seed, group="a"):
    truth = bumpy(seed)
    foreground = (truth > 0).astype(np.uint8)
    return TuningCase(f"v{seed}", group, foreground, truth, SPACING)


def test_tuning_finds_better_numbers_and_records_every_trial():
    start = ObjectOptions(neck=0.95, depth_um=0.0)

    tuned = tune_decoder([case(1), case(2)], start)

    assert tuned.score > tuned.trials[0]["score"] + 0.1
    assert tuned.score == max(trial["score"] for trial in tuned.trials)
    assert tuned.trials[0]["neck"] == 0.95
    assert len(tuned.trials) > 8


def test_tuning_keeps_the_start_when_nothing_is_better():
    start = ObjectOptions(method="components")

    tuned = tune_decoder([case(1)], start, grid={"threshold": [0.4, 0.6]})

    assert tuned.options == start


def test_mean_size_is_measured_on_the_training_objects():
    start = ObjectOptions(method="mean-size", mean_volume_um3=99.0)

    tuned = tune_decoder([case(1)], start, grid={})

    voxels = np.bincount(bumpy(1).ravel())[1:]
    expected = voxels.mean() * SPACING.voxel_volume_um3
    assert tuned.options.mean_volume_um3 == pytest.approx(expected)


@pytest.mark.parametrize("held_out", [{"v1"}, {"a"}])
def test_a_held_out_volume_is_refused(held_out):
    with pytest.raises(ConfigError, match="held out"):
        tune_decoder([case(1)], held_out=held_out)


def test_no_volume_is_refused():
    with pytest.raises(ConfigError, match="no training volume to tune on"):
        tune_decoder([])

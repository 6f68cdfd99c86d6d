"""Volumes of two stains: neither of them tells what is labelled."""

import numpy as np
import pytest

from cellseg3d.cli.main import main
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.channels import common_channels
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.io.registry import read_labels, read_volume
from cellseg3d.simulate.stains import GAINS, LEVELS, NOISE, simulate_stains


def test_labels_are_where_both_stains_are_bright():
    case = simulate_stains((16, 64, 64), seed=3)
    middle = [level + gain / 2 for level, gain in zip(LEVELS, GAINS, strict=True)]

    bright = [
        plane > limit for plane, limit in zip(case.image.read(), middle, strict=True)
    ]

    truth = case.labels.read() == 1
    # A ball is at least 12 deviations brighter than the field, so half lies 6 away.
    assert min(g / n for g, n in zip(GAINS, NOISE, strict=True)) > 12
    np.testing.assert_array_equal(bright[0] & bright[1], truth)
    for alone in bright:
        assert (alone & ~truth).sum() > 0.5 * truth.sum()
    z, y, x = case.labels.spacing.zyx
    assert (z, y, x) == (0.2, 0.1, 0.1)
    assert case.volumes_um3 == {"both": pytest.approx(truth.sum() * z * y * x)}


def test_a_seed_gives_the_same_volume_and_another_seed_another():
    one, same, other = (simulate_stains((4, 24, 24), seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(one.image.read(), same.image.read())
    assert (one.labels.read() != other.labels.read()).any()


def test_a_large_volume_holds_more_balls():
    few, many = (simulate_stains(shape, 0) for shape in ((12, 48, 48), (12, 192, 96)))

    shares = [case.labels.read().mean() for case in (few, many)]
    assert shares[1] > 0.5 * shares[0]


@pytest.mark.parametrize(("seed", "pixel"), [(-1, 0.1), (0, 0.0), (0, float("nan"))])
def test_a_wrong_seed_or_pixel_is_refused(seed, pixel):
    with pytest.raises(ConfigError, match="expected"):
        simulate_stains((4, 24, 24), seed, pixel)


def test_the_command_writes_a_data_set_of_two_channels(tmp_path, capsys):
    out = tmp_path / "set"
    words = ["simulate", "--stains", "--n", "2", "--shape", "4,24,24", "--seed", "5"]

    assert main([*words, "--out", str(out), "--test-cells", "1"]) == 0

    assert "cell_001" in capsys.readouterr().out
    datalist = load_datalist(out)
    assert datalist.classes == ("background", "both")
    assert [case.split for case in datalist.cases] == ["training", "test"]
    images = [case.open_image() for case in datalist.cases]
    assert common_channels(images, "set") == ("DAPI", "actin")
    expected = simulate_stains((4, 24, 24), 6, 0.05)
    np.testing.assert_array_equal(images[1].read(), expected.image.read())
    labels = read_labels(datalist.cases[1].label)
    np.testing.assert_array_equal(labels.read(), expected.labels.read())
    assert images[1].spacing.zyx == pytest.approx((0.1, 0.05, 0.05))
    one = read_volume(datalist.cases[0].image, channel="actin")
    assert one.array.mean() > 1900


def test_a_microscope_of_x_rays_has_no_stains(tmp_path, capsys):
    words = ["simulate", "--stains", "--mount", "grid", "--out", str(tmp_path / "set")]

    assert main(words) == 3

    assert "leave out --mount" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()

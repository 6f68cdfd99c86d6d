import math

import pytest

from cellseg3d.core.errors import SpacingError
from cellseg3d.core.spacing import Spacing, unit_name


@pytest.mark.parametrize(
    ("lengths", "unit", "expected_um"),
    [
        ((500, 46, 46), "angstrom", (0.05, 0.0046, 0.0046)),
        ((50, 4.6, 4.6), "nm", (0.05, 0.0046, 0.0046)),
        ((0.05, 0.03, 0.02), "\u00b5m", (0.05, 0.03, 0.02)),
        ((0.05, 0.03, 0.02), "\u03bcm", (0.05, 0.03, 0.02)),
        ((5e-5, 3e-5, 2e-5), "mm", (0.05, 0.03, 0.02)),
    ],
)
def test_every_unit_comes_out_in_um(lengths, unit, expected_um):
    assert Spacing.of(lengths, unit).zyx == pytest.approx(expected_um)


@pytest.mark.parametrize("length", [0.0, -1.0, math.nan, math.inf])
def test_a_length_that_is_none_is_refused(length):
    with pytest.raises(SpacingError, match="along y"):
        Spacing(1.0, length, 1.0)


def test_an_unknown_unit_is_refused_by_name():
    with pytest.raises(SpacingError, match="'parsec'"):
        unit_name("parsec")


def test_two_lengths_are_not_a_spacing():
    with pytest.raises(SpacingError, match="three lengths"):
        Spacing.of((1, 2))


def test_volume_and_anisotropy_are_physical():
    spacing = Spacing.of((50, 5, 4), "nm")

    assert spacing.voxel_volume_um3 == pytest.approx(1e-6)
    assert spacing.is_close(Spacing(0.05, 0.005, 0.004))
    assert not spacing.is_close(Spacing(0.05, 0.004, 0.005))
    assert str(spacing) == "0.05 x 0.005 x 0.004 um (z, y, x)"

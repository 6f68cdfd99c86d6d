import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg3d.core.axes import axis_index, order_of, to_zyx
from cellseg3d.core.errors import AxisError


@given(st.permutations("ZYX"), st.permutations("ZYX"))
def test_every_permutation_undoes_itself(source, target):
    array = np.arange(24).reshape(2, 3, 4)
    there = order_of("".join(source), "".join(target))
    back = order_of("".join(target), "".join(source))

    restored = array.transpose(there).transpose(back)

    np.testing.assert_array_equal(restored, array)


@given(st.permutations("ZYX"))
def test_any_order_on_disk_gives_the_same_volume(letters):
    volume_zyx = np.arange(24).reshape(2, 3, 4)
    on_disk = volume_zyx.transpose(["ZYX".index(letter) for letter in letters])

    np.testing.assert_array_equal(to_zyx(on_disk, "".join(letters)), volume_zyx)


def test_a_2d_image_becomes_one_slice():
    image_xy = np.arange(6).reshape(2, 3)

    volume_zyx = to_zyx(image_xy, "xy")

    assert volume_zyx.shape == (1, 3, 2)
    np.testing.assert_array_equal(volume_zyx[0], image_xy.T)


@pytest.mark.parametrize("axes", ["ZY", "ZYT", "ZZX"])
def test_axes_that_do_not_fit_are_refused(axes):
    with pytest.raises(AxisError, match=axes[:2]):
        to_zyx(np.zeros((2, 2, 2)), axes)


def test_an_axis_that_is_none_is_refused():
    assert [axis_index(letter) for letter in "zyx"] == [0, 1, 2]
    with pytest.raises(AxisError, match="'t'"):
        axis_index("t")

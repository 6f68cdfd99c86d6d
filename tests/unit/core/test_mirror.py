import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellseg3d.core.mirror import mirrored


@given(st.integers(1, 7), st.integers(0, 20), st.integers(0, 20))
def test_places_are_mirrored_as_numpy_pads(length, before, after):
    padded = np.pad(np.arange(length), (before, after), mode="reflect")

    found = mirrored(np.arange(-before, length + after), length)

    np.testing.assert_array_equal(found, padded)

import numpy as np
import pytest

from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume


def test_a_volume_reads_only_the_region_asked_for():
    class Counting:
        shape = (4, 5, 6)
        dtype = np.dtype(np.uint8)
        voxels = 0

        def __getitem__(self, key):
            part = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)[key]
            Counting.voxels += part.size
            return part

    volume = Volume(Counting(), Spacing(1, 1, 1))

    part = volume.read(Roi((1, 1, 1), (3, 2, 4)))

    np.testing.assert_array_equal(part, [[[37, 38, 39]], [[67, 68, 69]]])
    assert Counting.voxels == 6


def test_a_volume_of_two_axes_is_refused_by_name():
    with pytest.raises(AxisError, match=r"cell\.tif.*\(4, 5\)"):
        Volume(np.zeros((4, 5)), provenance={"path": "cell.tif"})


def test_other_voxels_keep_their_place_in_space():
    volume = Volume(np.zeros((2, 2, 2)), Spacing(3, 2, 1), affine_mm=np.eye(4))

    labels = volume.with_array(np.ones((2, 2, 2), np.uint8))

    assert labels.spacing == volume.spacing
    assert labels.affine_mm is volume.affine_mm
    assert labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("spec", "channels", "kind", "patch_zyx"),
    [
        (InputSpec(2, (64, 48)), 1, "2D", (1, 64, 48)),
        (InputSpec(2, (64, 48), context=2, axis="y"), 5, "2.5D", (64, 5, 48)),
        (InputSpec(3, (16, 64, 48)), 1, "3D", (16, 64, 48)),
    ],
)
def test_a_spec_says_what_a_network_eats(spec, channels, kind, patch_zyx):
    assert spec.in_channels == channels
    assert spec.kind == kind
    assert spec.patch_zyx() == patch_zyx


@pytest.mark.parametrize(
    "values",
    [
        {"spatial_dims": 4, "patch_shape": [8, 8]},
        {"spatial_dims": 3, "patch_shape": [8, 8]},
        {"spatial_dims": 3, "patch_shape": [8, 8, 8], "context": 1},
        {"spatial_dims": 2, "patch_shape": [8, 0]},
        {"spatial_dims": 2, "patch_shape": [8, 8], "contxt": 1},
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(values):
    with pytest.raises(ConfigError):
        InputSpec.parse(values)

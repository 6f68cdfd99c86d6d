"""Choose axis and size of training patches from the volumes' shape and spacing."""

import math
from collections.abc import Sequence

from cellseg3d.core.axes import AXES, Axis, axis_index
from cellseg3d.core.input_spec import InputSpec

# A patch of this size shows a cell's parts with their surroundings. With two patches a
# batch, one step of a small U-Net takes less than a second on two cores.
VOXELS_3D = 80**3
SIDE_2D = 256
# Sides are multiples of this where the volume has room for it.
MULTIPLE = 16
# Slices are cut across the longest voxel edge if it is at least this many times as long
# as the shortest.
ANISOTROPIC = 1.5


def choose_axis(
    shapes: Sequence[Sequence[int]], spacing_um: Sequence[float] | None = None
) -> tuple[Axis, str]:
    """Return the axis to cut slices across, and the reason in words.

    Parameters
    ----------
    shapes : sequence of (Z, Y, X)
        Shapes of the training volumes, in voxels.
    spacing_um : three floats (z, y, x), optional
        Voxel edges, in um; None means that voxels are cubes.
    """
    if min(shape[0] for shape in shapes) == 1:
        return "z", "some volumes are single slices"
    if spacing_um is None:
        return "z", "voxel edges are unknown, so slices are those of the recording"
    edges = list(spacing_um)
    if max(edges) >= ANISOTROPIC * min(edges):
        lengths = " x ".join(f"{edge:.4g}" for edge in edges)
        return AXES[edges.index(max(edges))], (
            f"voxels are {lengths} um (z, y, x), so slices across the longest edge "
            "show the most detail"
        )
    return "z", "voxels are about cubes, so every axis is equally good"


def choose_patch(
    spec: InputSpec,
    shapes: Sequence[Sequence[int]],
    spacing_um: Sequence[float] | None = None,
    share: float = 1.0,
) -> tuple[int, ...]:
    """Return a patch shape that fits every volume and is about equally long in um.

    If the volumes are thin along one axis, the patch is longer along the others.

    Parameters
    ----------
    spec : InputSpec
        The network's input: number of dimensions and axis. Its patch shape counts only
        in 2D and if a side is longer than 256, which is then the longest side allowed.
    shapes : sequence of (Z, Y, X)
        Shapes of the training volumes, in voxels.
    spacing_um : three floats (z, y, x), optional
        Voxel edges, in um; None means that voxels are cubes.
    share : float
        Factor on the usual number of voxels; a value below 1 gives cheaper steps.

    Returns
    -------
    tuple of int
        Sides in voxels, multiples of 16; of 4 where a volume is thinner than 32, and of
        1 where it is thinner than 8.
    """
    smallest = [min(shape[axis] for shape in shapes) for axis in range(3)]
    if spec.spatial_dims == 2:
        across = axis_index(spec.axis)
        sides = [size for axis, size in enumerate(smallest) if axis != across]
        most = max(SIDE_2D, *spec.patch_shape) * math.sqrt(share)
        return tuple(_fit(most, size) for size in sides)
    lengths = list(spacing_um or (1.0, 1.0, 1.0))
    patch = [0, 0, 0]
    budget = share * VOXELS_3D
    # The shortest axis comes first; the others share the voxels that are left.
    order = sorted(range(3), key=lambda axis: smallest[axis] * lengths[axis])
    for place, axis in enumerate(order):
        left = order[place:]
        volume_um3 = budget
        for other in left:
            volume_um3 *= lengths[other]
        side_um = volume_um3 ** (1 / len(left))
        patch[axis] = _fit(side_um / lengths[axis], smallest[axis])
        budget /= patch[axis]
    return tuple(patch)


def _fit(wanted: float, size: int) -> int:
    """Return the multiple nearest to `wanted` that fits into `size`."""
    if size < 8:
        return max(1, size)
    multiple = MULTIPLE if size >= 2 * MULTIPLE else 4
    most = size // multiple * multiple
    return max(multiple, min(most, round(wanted / multiple) * multiple))

"""How a training crop lies and how large it is, from the volumes and their spacing."""

import math
from collections.abc import Sequence

from cellseg3d.core.axes import AXES, Axis, axis_index
from cellseg3d.core.input_spec import InputSpec

# A crop of so many voxels holds the context of a cell's parts and, twice in a batch,
# trains a small U-Net in under a second a step on two cores.
VOXELS_3D = 80**3
SIDE_2D = 256
# Sides are multiples of this where the volume has room for it.
MULTIPLE = 16
# Slices are cut across the longest edge of a voxel when it is so many times another.
ANISOTROPIC = 1.5


def choose_axis(
    shapes: Sequence[Sequence[int]], spacing_um: Sequence[float] | None = None
) -> tuple[Axis, str]:
    """Return the axis that slices are best cut across, and why.

    Parameters
    ----------
    shapes : sequence of (Z, Y, X)
        Of the training volumes, voxels.
    spacing_um : three floats (z, y, x), optional
        Voxel edges; None counts as cubes.
    """
    if min(shape[0] for shape in shapes) == 1:
        return "z", "some volumes are single slices"
    if spacing_um is None:
        return "z", "voxel edges are unknown, so slices are cut as they were recorded"
    edges = list(spacing_um)
    if max(edges) >= ANISOTROPIC * min(edges):
        lengths = " x ".join(f"{edge:.4g}" for edge in edges)
        return AXES[edges.index(max(edges))], (
            f"voxels are {lengths} um (z, y, x): cut across the longest edge, slices "
            "have the fine ones"
        )
    return "z", "voxels are about cubes, so any axis serves"


def choose_patch(
    spec: InputSpec,
    shapes: Sequence[Sequence[int]],
    spacing_um: Sequence[float] | None = None,
    share: float = 1.0,
) -> tuple[int, ...]:
    """Return a patch that fits every volume and is about as long in um on each side.

    What a thin volume leaves over along one axis goes to the others.

    Parameters
    ----------
    spec : InputSpec
        Its dimensions and axis. Of its patch, only a 2D one larger than 256 counts:
        it is then the largest side.
    shapes : sequence of (Z, Y, X)
        Of the training volumes, voxels.
    spacing_um : three floats (z, y, x), optional
        Voxel edges; None counts as cubes.
    share : float
        Of the usual number of voxels: less where steps must be many and cheap.

    Returns
    -------
    tuple of int
        Multiples of 16, or of 4 or 1 where a volume is thinner than 32 or 8.
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
    # Axes with the least room first; the rest shares what is left of the budget.
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

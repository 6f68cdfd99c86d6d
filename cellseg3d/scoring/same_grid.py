"""Two volumes whose voxels are compared one by one lie on the same grid, or stop."""

from cellseg3d.core.errors import LabelError, SpacingError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume


def common_spacing(
    one: Volume, other: Volume, given: Spacing | None = None
) -> Spacing | None:
    """Return the spacing of two volumes on one grid; `given` wins over the files'.

    Raises
    ------
    LabelError
        If their shapes differ.
    SpacingError
        If both state a spacing, they differ, and none is given.
    """
    if one.shape != other.shape:
        transposed = sorted(one.shape) == sorted(other.shape)
        guess = "transposed?" if transposed else "are these the same volume?"
        message = (
            f"{one.name}: has shape {one.shape} (z, y, x), but {other.name} has "
            f"{other.shape}; {guess}"
        )
        raise LabelError(message)
    if given is not None:
        return given
    if one.spacing and other.spacing and not one.spacing.is_close(other.spacing):
        message = (
            f"{one.name}: has spacing {one.spacing}, but {other.name} has "
            f"{other.spacing}; give the right one with `spacing_um`"
        )
        raise SpacingError(message)
    return one.spacing or other.spacing

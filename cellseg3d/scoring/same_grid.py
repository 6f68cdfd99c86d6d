"""Check that two volumes have the same shape and spacing before they are compared."""

from cellseg3d.core.errors import LabelError, SpacingError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume


def common_spacing(
    one: Volume, other: Volume, given: Spacing | None = None
) -> Spacing | None:
    """Return the spacing of two volumes with the same shape.

    Parameters
    ----------
    one, other : Volume
        The volumes.
    given : Spacing, optional
        Voxel edges to return instead of those in the files.

    Raises
    ------
    LabelError
        If their shapes differ.
    SpacingError
        If both state a spacing, these differ, and `given` is None.
    """
    if one.shape != other.shape:
        transposed = sorted(one.shape) == sorted(other.shape)
        guess = (
            "one is transposed: swap its axes"
            if transposed
            else "give two files of the same volume"
        )
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

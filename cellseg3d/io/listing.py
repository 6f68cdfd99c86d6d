"""Which volumes a path stands for: itself, or those in a folder."""

from pathlib import Path

from cellseg3d.core.errors import AxisError, FormatError
from cellseg3d.io.formats import kind_to_read
from cellseg3d.io.names import role_of
from cellseg3d.io.registry import list_volumes, open_volume, split_inner
from cellseg3d.io.sniff import check_path, natural_key

_SLICES = (".png", ".tif", ".tiff")


def volumes_at(path: Path | str) -> list[str]:
    """Return the names of the volumes that a path stands for.

    A folder of single PNG or TIFF slices is one volume; any other folder stands for
    the volumes in it, or, if it holds none itself, for those in its folders, such as
    ``images`` and ``labels``.

    Raises
    ------
    FormatError
        If the path is missing, or a folder without volumes.
    """
    file, inner = split_inner(path, None)
    if inner:
        return [str(path)]
    check_path(file)
    if not file.is_dir() or kind_to_read(file) != "folder":
        return [str(file)]
    try:
        found = list_volumes(file)
    except FormatError:
        inside = [name for folder in _folders(file) for name in _volumes_in(folder)]
        if not inside:
            raise
        return inside
    return [str(file)] if _is_one_volume(file, found) else list(map(str, found))


def _is_one_volume(folder: Path, found: list[Path]) -> bool:
    """Whether a folder's files are the slices of one volume."""
    if any(each.suffix.lower() not in _SLICES for each in found):
        return False
    if {"image", "label"} <= {role_of(each) for each in found}:
        return False  # pairs of images and labels
    try:
        open_volume(folder)
    except AxisError:  # the first file alone is a stack, or in colour
        return False
    except FormatError:
        if open_volume(found[0]).shape[0] == 1:
            raise
        return False  # the names of stacks need no number
    return True


def _folders(place: Path) -> list[Path]:
    """Return the folders in a folder, in natural order; hidden ones do not count."""
    found = [each for each in place.iterdir() if each.is_dir()]
    shown = [each for each in found if not each.name.startswith(".")]
    return sorted(shown, key=lambda each: natural_key(each.name))


def _volumes_in(folder: Path) -> list[str]:
    """Return what a folder stands for; nothing for one without volumes."""
    try:
        list_volumes(folder)
    except FormatError:
        return []
    return volumes_at(folder)

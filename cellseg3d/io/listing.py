"""Find the volumes that a path means: itself, or those in a folder."""

from pathlib import Path

from cellseg3d.core.errors import AxisError, FormatError
from cellseg3d.io.formats import kind_to_read
from cellseg3d.io.names import role_of
from cellseg3d.io.registry import list_volumes, open_volume, split_inner
from cellseg3d.io.sniff import check_path, natural_key

_SLICES = (".png", ".tif", ".tiff")


def volumes_at(path: Path | str) -> list[str]:
    """Return the names of the volumes that a path means.

    A folder of single PNG or TIFF slices is one volume. Any other folder means the
    volumes in it, or, if there are none, those in its subfolders, such as ``images``
    and ``labels``.

    Parameters
    ----------
    path : Path or str
        A file or a folder; ``file.h5::raw`` names a dataset.

    Raises
    ------
    FormatError
        If the path does not exist, or is a folder without volumes.
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
    """Return whether the files of a folder are the slices of one volume."""
    if any(each.suffix.lower() not in _SLICES for each in found):
        return False
    if {"image", "label"} <= {role_of(each) for each in found}:
        return False  # these are images with their labels
    try:
        open_volume(folder)
    except AxisError:  # the first file is a stack or has colours
        return False
    except FormatError:
        if open_volume(found[0]).shape[0] == 1:
            raise
        return False  # these are stacks, whose names need no numbers
    return True


def _folders(place: Path) -> list[Path]:
    """Return the subfolders in natural order, without hidden ones."""
    found = [each for each in place.iterdir() if each.is_dir()]
    shown = [each for each in found if not each.name.startswith(".")]
    return sorted(shown, key=lambda each: natural_key(each.name))


def _volumes_in(folder: Path) -> list[str]:
    """Return the volumes that a folder means, or an empty list if there are none."""
    try:
        list_volumes(folder)
    except FormatError:
        return []
    return volumes_at(folder)

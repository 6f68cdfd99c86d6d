"""Which volumes a path stands for: itself, or those in a folder."""

from pathlib import Path

from cellseg3d.core.errors import AxisError
from cellseg3d.io.formats import kind_to_read
from cellseg3d.io.registry import list_volumes, open_volume, split_inner
from cellseg3d.io.sniff import check_path

_SLICES = (".png", ".tif", ".tiff")


def volumes_at(path: Path | str) -> list[str]:
    """Return the names of the volumes that a path stands for.

    A folder of single PNG or TIFF slices is one volume; any other folder stands for
    the volumes in it.

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
    found = list_volumes(file)
    if any(each.suffix.lower() not in _SLICES for each in found):
        return [str(each) for each in found]
    try:
        open_volume(file)
    except AxisError:  # the first file alone is a stack, or in colour
        return [str(each) for each in found]
    return [str(file)]

"""Find the OME-Zarr image to which an array belongs that was named by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr

from cellseg3d.io.zarr.metadata import multiscales_in

# Levels of folders above an array in which its image is looked for.
_HIGHEST = 4


def image_around(path: Path, inner: str) -> tuple[Any, Mapping[str, Any], int] | None:
    """Return the group of an OME-Zarr image that lists an array as one of its levels.

    Parameters
    ----------
    path : Path
        The folder that the user named, such as ``store.zarr`` or ``store.zarr/0``.
    inner : str
        The path of the array in it; ``""`` if the folder is the array.

    Returns
    -------
    (zarr.Group, mapping, int) or None
        The group, the entry of its metadata, and the number of the level.
    """
    parts = [*path.absolute().parts, *[each for each in inner.split("/") if each]]
    for count in range(1, min(_HIGHEST, len(parts) - 1) + 1):
        name = "/".join(parts[-count:])
        try:
            group = zarr.open_group(
                Path(*parts[:-count]), mode="r", use_consolidated=False
            )
            attributes = dict(group.attrs)
        except (FileNotFoundError, KeyError, ValueError, TypeError, OSError):
            continue
        for image in multiscales_in(attributes):
            levels = image.get("datasets") if isinstance(image, Mapping) else None
            for number, entry in enumerate(levels if isinstance(levels, list) else []):
                if isinstance(entry, Mapping) and entry.get("path") == name:
                    return group, image, number
    return None

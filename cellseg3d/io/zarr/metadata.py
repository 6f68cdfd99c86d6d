"""Check the parts of OME-Zarr metadata that are read, since anybody may write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import FormatError


def multiscales_in(attributes: Mapping[str, Any]) -> list[Any]:
    """Return the images that the attributes of a group list, in version 0.4 or 0.5."""
    ome = attributes.get("ome", attributes)
    found = ome.get("multiscales") if isinstance(ome, Mapping) else None
    return found if isinstance(found, list) else []


def checked_image(path: Path, image: object) -> Mapping[str, Any]:
    """Return an entry of ``multiscales`` whose parts are of the right types.

    Raises
    ------
    FormatError
        If one is not; the message names it.
    """
    if not isinstance(image, Mapping):
        raise _wrong(path, "multiscales[0]", image, "a mapping")
    datasets = image.get("datasets")
    if not isinstance(datasets, list) or not datasets:
        raise _wrong(path, "datasets", datasets, "a list of levels")
    for entry in datasets:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
            raise _wrong(path, "datasets", entry, "a mapping with a path")
    for holder in (*datasets, image):
        _check_transformations(path, holder.get("coordinateTransformations", []))
    axes = image.get("axes") or []
    if not isinstance(axes, list):
        raise _wrong(path, "axes", axes, "a list")
    for axis in axes:
        named = isinstance(axis, Mapping) and isinstance(axis.get("name"), str)
        if not named and not isinstance(axis, str):
            raise _wrong(path, "axes", axis, "a name, or a mapping with a name")
    return image


def _check_transformations(path: Path, found: object) -> None:
    key = "coordinateTransformations"
    if not isinstance(found, list):
        raise _wrong(path, key, found, "a list")
    for each in found:
        if not isinstance(each, Mapping):
            raise _wrong(path, key, each, "a mapping")
        scale = each.get("scale", [])
        numbers = isinstance(scale, list) and all(
            isinstance(value, int | float) and not isinstance(value, bool)
            for value in scale
        )
        if each.get("type") == "scale" and (not numbers or not scale):
            raise _wrong(path, f"{key}: scale", scale, "numbers")


def _wrong(path: Path, key: str, found: object, expected: str) -> FormatError:
    return FormatError(
        f"{path}: its OME-Zarr metadata hold {found!r:.80} as {key}; expected "
        f"{expected}; export it again"
    )

"""The levels of an OME-Zarr image: their arrays, axes, scales and spacing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cellseg3d.core.errors import FormatError, SpacingError
from cellseg3d.core.spacing import Spacing, um_per
from cellseg3d.io.layout import unknown_spacing, unknown_unit
from cellseg3d.io.picking import assumed_axes


def level_of(
    path: Path,
    group: Any,  # noqa: ANN401
    image: Mapping[str, Any],
    level: int,
) -> tuple[Any, list[float]]:
    """Return the array of a level, and its scale along each axis; 1 if unstated."""
    datasets = image["datasets"]
    if not 0 <= level < len(datasets):
        raise FormatError(
            f"{path}: has no level {level}; its levels are 0..{len(datasets) - 1}"
        )
    entry = datasets[level]
    try:
        array = group[entry["path"]]
    except KeyError as error:
        raise FormatError(
            f"{path}: its level {level} is missing in {entry['path']!r}; copy it again"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:  # the library's own
        cause = " ".join(str(error).split())
        raise FormatError(
            f"{path}: its level {level} has metadata that cannot be read "
            f"({cause:.200}); export it again"
        ) from error
    if not isinstance(array, zarr.Array):
        raise FormatError(
            f"{path}: its level {level}, {entry['path']!r}, is no array; "
            "export it again"
        )
    return array, scale_of(entry, image, array.ndim) or [1.0] * array.ndim


def scale_of(
    entry: Mapping[str, Any], image: Mapping[str, Any], axes: int
) -> list[float] | None:
    """Return the scale of a level, with that of its image; None if neither has one."""
    scale, stated = np.ones(axes), False
    for holder in (entry, image):
        for each in holder.get("coordinateTransformations", []):
            if each.get("type") == "scale" and len(each["scale"]) == axes:
                scale = scale * np.asarray(each["scale"], np.float64)
                stated = True
    return scale.tolist() if stated else None


def named_axes(
    path: Path,
    image: Mapping[str, Any],
    array: Any,  # noqa: ANN401
) -> tuple[str, dict[str, str]]:
    """Return a letter for each axis of an array, and the units of the axes."""
    entries = image.get("axes") or list("tczyx"[-array.ndim :])
    names, units = "", {}
    for entry in entries:
        # In version 0.3 an entry is a letter, later a mapping.
        name = entry if isinstance(entry, str) else entry["name"]
        letter = str(name)[:1].upper()
        names += letter
        if not isinstance(entry, str) and entry.get("unit"):
            units[letter] = str(entry["unit"])
    if len(names) != array.ndim or len(set(names)) != len(names):
        raise FormatError(
            f"{path}: its axes {names} do not fit its array of shape {array.shape}; "
            "export it again"
        )
    return names, units


def bare_axes(path: Path, array: Any) -> str:  # noqa: ANN401
    """Return a letter for each axis of an array without metadata."""
    if not 2 <= array.ndim <= 5:
        raise FormatError(f"{path}: has {array.ndim} axes; expected 3 (z, y, x)")
    return assumed_axes(array.ndim)


def spacing_of(
    axes: str, scale: list[float], units: Mapping[str, str]
) -> tuple[Spacing | None, list[str]]:
    """Return the spacing by scales and units, and what is odd about it."""
    lengths = []
    for letter in "ZYX":
        unit = units.get(letter, "")
        factor = um_per(unit)
        if letter not in axes:
            return None, [
                f"it states no spacing along {letter.lower()}, so its spacing is "
                "unknown"
            ]
        if factor is None:
            hint = unknown_unit(unit, f"lengths along {letter.lower()}")
            odd = unit or any(value != 1.0 for value in scale)
            return None, [hint] if odd else []
        lengths.append(scale[axes.index(letter)] * factor)
    try:
        return Spacing.of(lengths), []
    except SpacingError as error:
        return None, [unknown_spacing(error)]

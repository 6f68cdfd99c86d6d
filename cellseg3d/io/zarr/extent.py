"""Compare the shape of a Zarr array with what else its folder states of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr

# Folders above an array in which metadata of all arrays are looked for.
_HIGHEST = 4


def doubted_extent(folder: Path, shape: Sequence[int]) -> list[str]:
    """Return a sentence if consolidated metadata state another shape of an array.

    Parameters
    ----------
    folder : Path
        The folder of the array.
    shape : sequence of int
        The shape in its own metadata.
    """
    parts = folder.absolute().parts
    for count in range(1, min(_HIGHEST, len(parts) - 1) + 1):
        stated = _consolidated(Path(*parts[:-count]), "/".join(parts[-count:]))
        if stated is not None and list(stated) != list(shape):
            return [
                f"its own metadata state the shape {tuple(shape)}, but those of the "
                f"whole store {tuple(stated)}; copy it again, unless the array was "
                "made longer later"
            ]
    return []


def doubted_levels(
    group: Any,  # noqa: ANN401 - a zarr.Group
    image: Mapping[str, Any],
    level: int,
    scales: Sequence[Sequence[float] | None],
) -> list[str]:
    """Return a sentence if the shape of a level does not fit the next level's.

    A level has as many voxels as the other one by the ratio of their scales, but for
    rounding to a whole number.

    Parameters
    ----------
    group : zarr.Group
        The image.
    image : mapping
        Its entry of ``multiscales``, checked.
    level : int
        The level that is read.
    scales : sequence
        The scale of each level; None where it states none.
    """
    other = level + 1 if level + 1 < len(scales) else level - 1
    one, two = scales[level], scales[other]
    if other < 0 or one is None or two is None or len(one) != len(two):
        return []
    names = [str(image["datasets"][number]["path"]) for number in (level, other)]
    try:
        here, there = (group[name] for name in names)
    except (KeyError, ValueError, TypeError, AttributeError, OSError):
        return []
    if not all(isinstance(each, zarr.Array) for each in (here, there)):
        return []
    fits = len(here.shape) == len(there.shape) == len(one) and all(
        _fits(*four) for four in zip(here.shape, there.shape, one, two, strict=True)
    )
    if fits:
        return []
    return [
        f"its level {names[0]} has the shape {here.shape}, which does not fit the "
        f"shape {there.shape} of level {names[1]} and the scales of both; export "
        "it again, or check that no slices are missing"
    ]


def _fits(length: int, other: int, scale: float, other_scale: float) -> bool:
    """Return whether two lengths in voxels are one length by the scales, rounded."""
    if not (scale > 0 and other_scale > 0):
        return True
    ratio = other_scale / scale
    large, small = (length, other) if ratio >= 1 else (other, length)
    ratio = max(ratio, 1 / ratio)
    if abs(ratio - 1) < 1e-6:
        return length == other
    return abs(large - small * ratio) < ratio


def _consolidated(folder: Path, name: str) -> list[int] | None:
    """Return the shape of an array in the consolidated metadata of a folder, if any."""
    for file, keys in (
        (".zmetadata", ("metadata", f"{name}/.zarray", "shape")),
        ("zarr.json", ("consolidated_metadata", "metadata", name, "shape")),
    ):
        try:
            node: Any = json.loads((folder / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for key in keys:
            node = node.get(key) if isinstance(node, Mapping) else None
        if isinstance(node, list) and all(isinstance(side, int) for side in node):
            return node
    return None

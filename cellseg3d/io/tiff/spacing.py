"""Read voxel edges from the metadata of the various kinds of TIFF."""

import math
from typing import Any
from xml.etree import ElementTree as ET

import tifffile

from cellseg3d.core.errors import SpacingError
from cellseg3d.core.spacing import UM_PER, Spacing, um_per
from cellseg3d.io.layout import unknown_spacing, unknown_unit

CENTIMETRE = 3
RESOLUTION_LIMIT = 2**32 - 1


def spacing_of(
    tif: tifffile.TiffFile, slices: int = 1
) -> tuple[Spacing | None, list[str]]:
    """Return the spacing in um that a TIFF states, and sentences about what is unusual.

    The spacing is None if one of the three edges or its unit is missing. ImageJ leaves
    out a depth of 1, and the units of y and z if they are those of x.

    Parameters
    ----------
    tif : TiffFile
        The open file.
    slices : int
        The number of slices; if there are several, a missing depth gets a sentence.

    Returns
    -------
    spacing : Spacing or None
    odd : list of str
    """
    odd = []
    if tif.is_ome:
        lengths, units = _ome(tif.ome_metadata or "")
    elif tif.is_lsm:
        facts = tif.lsm_metadata or {}
        # LSM states metres.
        lengths = [_number(facts.get(f"VoxelSize{each}"), 1e6) for each in "ZYX"]
        units = []
    else:
        lengths, units = _tags(tif)
        if tif.is_imagej and lengths[0] is None and None not in lengths[1:]:
            facts = tif.imagej_metadata or {}
            unit = str(facts.get("zunit", facts.get("unit")))
            lengths[0] = um_per(unit)
            if slices > 1:
                odd = [
                    f"it states no depth of a slice, so it is 1 {unit}, as in ImageJ"
                ]
    if all(length is None for length in lengths):
        return None, [unknown_unit(unit) for unit in units[:1]]
    z, y, x = lengths
    if z is None or y is None or x is None:
        letters = [
            letter for letter, length in zip("zyx", lengths, strict=True) if not length
        ]
        return None, [
            f"it states no spacing along {', '.join(letters)}, so its spacing is "
            "unknown"
        ]
    try:
        return Spacing(z, y, x), odd
    except SpacingError as error:
        return None, [unknown_spacing(error)]


def resolution_of(spacing: Spacing) -> dict[str, Any]:
    """Return the arguments of tifffile that state the edges along x and y."""
    return {
        "resolution": (_rational(spacing.x), _rational(spacing.y)),
        "resolutionunit": "NONE",
    }


def _rational(edge_um: float) -> tuple[int, int]:
    """Return 1 / edge as a fraction of two 32-bit integers, as exact as possible."""
    inverse = 1.0 / edge_um
    scale = RESOLUTION_LIMIT / max(inverse, 1.0)
    return round(inverse * scale), round(scale)


def _ome(xml: str) -> tuple[list[float | None], list[str]]:
    """Return the edges (z, y, x) in um, and units that are no lengths."""
    pixels = next(
        (
            element
            for element in ET.fromstring(xml).iter()
            if element.tag.rpartition("}")[2] == "Pixels"
        ),
        None,
    )
    lengths: list[float | None] = []
    strange: list[str] = []
    for letter in "ZYX":
        text = None if pixels is None else pixels.get(f"PhysicalSize{letter}")
        # The OME schema's default unit is the micrometre.
        unit = "um" if pixels is None else pixels.get(f"PhysicalSize{letter}Unit", "um")
        factor = um_per(unit)
        if text is not None and factor is None:
            strange.append(unit)
        lengths.append(_number(text, factor))
    return lengths, strange


def _number(value: object, factor: float | None) -> float | None:
    """Return a number times a factor; None if there is no number or no factor."""
    try:
        return float(str(value)) * factor if factor is not None else None
    except ValueError:
        return None


def _tags(tif: tifffile.TiffFile) -> tuple[list[float | None], list[str]]:
    """Return the edges (z, y, x) in um, and units that are no lengths."""
    if tif.is_imagej:
        facts = tif.imagej_metadata or {}
    else:
        facts = (tif.shaped_metadata or ({},))[0]
    tags = tif.pages.first.tags
    unit = facts.get("unit")
    depth = facts.get("spacing")
    units = [facts.get(name, unit) for name in ("zunit", "yunit", "unit")]
    factors = [um_per(str(each)) if each else None for each in units]
    if depth is None and factors[2] is None:
        return [None, None, None], []
    if None in factors:
        return [None, None, None], [str(units[factors.index(None)] or "")]
    along_z, along_y, along_x = factors
    per_x, per_y = (_per_unit(tags, name) for name in ("XResolution", "YResolution"))
    if not tif.is_imagej and _value(tags, "ResolutionUnit") == CENTIMETRE:
        along_y = along_x = UM_PER["cm"]
    return [
        abs(deep) if (deep := _number(depth, along_z)) is not None else None,
        along_y / per_y if per_y and along_y else None,
        along_x / per_x if per_x and along_x else None,
    ], []


def _per_unit(tags: Any, name: str) -> float | None:  # noqa: ANN401
    value = _value(tags, name)
    if value is None or not value[1] or not value[0]:
        return None
    per = float(value[0]) / float(value[1])
    return per if math.isfinite(per) and per > 0 else None


def _value(tags: Any, name: str) -> Any:  # noqa: ANN401
    tag = tags.get(name)
    return None if tag is None else tag.value

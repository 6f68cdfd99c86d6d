"""Read TIFF stacks, ImageJ hyperstacks, OME-TIFF and BigTIFF."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import tifffile

from cellseg3d.core.axes import to_zyx
from cellseg3d.core.channels import ArrayLike, ChannelStack
from cellseg3d.core.errors import AxisError, FormatError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.volume import Volume
from cellseg3d.io.damage import reading
from cellseg3d.io.layout import Request, split_unit, unpack_notes
from cellseg3d.io.lazy import LazyArray, RawVoxels, lazy_shape
from cellseg3d.io.picking import (
    CHANNEL_NAMES,
    GREY,
    PALETTE,
    all_grey,
    assumed_axes,
    channel_names_in,
    colour_names,
    pick_axes,
    times_note,
)
from cellseg3d.io.tiff.chain import check_chain, check_every_page, check_promises
from cellseg3d.io.tiff.pages import (
    PageVoxels,
    SeriesVoxels,
    open_pages,
    quiet,
    written_page_by_page,
)
from cellseg3d.io.tiff.sink import create
from cellseg3d.io.tiff.spacing import spacing_of

__all__ = ["create", "open_file"]

# The letters of tifffile for pages whose axis has no name.
_STACK_LETTERS = "IQ"


def open_file(path: Path, request: Request) -> Volume:
    """Open a TIFF without reading its voxels.

    Raises
    ------
    FormatError
        If the file is damaged, if pages differ in size or type, or if it holds more or
        fewer pages than its header states.
    AxisError
        If the file holds several images, or several channels or time points and none
        is chosen.
    """
    pages = check_chain(path)
    with reading(path), quiet(), tifffile.TiffFile(path) as tif:
        check_promises(path, tif, pages)
        if not tif.series:
            raise FormatError(f"{path}: is a TIFF without an image; export it again")
        pages -= _smaller_copies(tif)
        array, about, odd = _voxels(path, tif, pages, request)
        spacing, warnings = spacing_of(tif, array.shape[-3])
        warnings = [*odd, *_odd_tags(tif), *_odd_size(tif), *warnings]
        unit, notes = split_unit(_notes(tif))
        provenance: dict[str, Any] = {
            **notes,
            "path": str(path),
            "format": _flavour(tif),
            **about,
        }
    if warnings:
        provenance["warnings"] = warnings
    return Volume(array, spacing, unit, provenance)


def _smaller_copies(tif: tifffile.TiffFile) -> int:
    """Return how many pages are thumbnails or smaller levels of a pyramid."""
    every = [level for series in tif.series for level in series.levels]
    return sum(
        len(each)
        for each in every
        if each.keyframe.is_reduced and not each.keyframe.is_subifd
    )


def _voxels(
    path: Path, tif: tifffile.TiffFile, pages: int, request: Request
) -> tuple[ArrayLike, dict[str, Any], list[str]]:
    """Return a lazy array of the voxels, notes about the file's axes, and odd facts."""
    paged = written_page_by_page(tif)
    with open_pages(path) if paged else contextlib.nullcontext(tif) as whole:
        series = whole.series[0]
        _check_series(path, whole)
        check_every_page(path, series, pages)
        names = _channel_names(tif, series, request)
        names = names or channel_names_in(_notes(tif))
        array, odd, about = _lazy(path, series, request, names)
        if paged:
            odd.append("its pages were written one by one and are read as slices")
        about |= {CHANNEL_NAMES: names} if names else {}
        return array, {"axes": series.axes, **about}, odd


def _flavour(tif: tifffile.TiffFile) -> str:
    if tif.is_ome:
        return "OME-TIFF"
    return "ImageJ TIFF" if tif.is_imagej else "TIFF"


def _notes(tif: tifffile.TiffFile) -> dict[str, Any]:
    if tif.is_ome:
        texts = (
            element.text
            for element in ET.fromstring(tif.ome_metadata or "").iter()
            if element.tag.rpartition("}")[2] == "Description"
        )
        return next((found for text in texts if (found := unpack_notes(text))), {})
    if tif.is_imagej:
        return unpack_notes(str((tif.imagej_metadata or {}).get("Info", "")))
    shaped = tif.shaped_metadata
    return unpack_notes(str(shaped[0].get("Info", ""))) if shaped else {}


def _check_series(path: Path, tif: tifffile.TiffFile) -> None:
    """Raise an error if pages differ in size, or if the file holds several images."""
    first, *others = tif.series
    others = [each for each in others if not each.keyframe.is_reduced]
    if not others:
        return
    for index, series in enumerate(others, start=1):
        if tif.is_ome:
            break
        if series.shape[-2:] != first.shape[-2:] or series.dtype != first.dtype:
            page = getattr(series.keyframe, "index", index)
            raise FormatError(
                f"{path}: its page {page} is {series.shape[-2:]} {series.dtype}, but "
                f"page 0 is {first.shape[-2:]} {first.dtype}; pages of a volume must "
                "have one size and type"
            )
    raise AxisError(
        f"{path}: holds {1 + len(others)} images of axes {first.axes}, shape "
        f"{first.shape}; expected one volume; write each to its own file"
    )


def _lazy(
    path: Path,
    series: Any,  # noqa: ANN401
    request: Request,
    names: Sequence[str],
) -> tuple[ArrayLike, list[str], dict[str, Any]]:
    """Return a lazy array, sentences about what is unusual, and `times_note`."""
    axes, shape = _named_axes(path, series)
    if series.dtype is None or np.dtype(series.dtype).kind not in "biuf":
        raise FormatError(
            f"{path}: holds voxels of {series.dtype}; expected integers or floats"
        )
    odd = _odd_colours(series)
    grey = _grey_page(series, axes, request)
    if grey:
        odd.append(GREY)
    # Equal colours are read as one. `PageVoxels` checks this again in every page.
    asked = request.with_channel(0) if grey else request
    axes, picked = pick_axes(path, axes, shape, asked, names)
    about = times_note(axes, shape)
    dtype = np.dtype(series.dtype)
    if series.dataoffset is not None and dtype.kind != "b" and not grey:
        order = series.parent.byteorder
        raw = RawVoxels(
            path, series.dataoffset, dtype.newbyteorder(order), shape, axes, picked
        )
        size = path.stat().st_size
        if size < raw.end:
            raise FormatError(
                f"{path}: is incomplete, with {size} of {raw.end} bytes; copy it again"
            )
        return raw.lazy(), odd, about
    inside = _page_axes(series, axes)
    volume_shape = lazy_shape(axes, shape, picked)
    plain = "".join(letter for letter in inside if letter not in picked)
    plain = plain.replace("C", "") if series.keyframe.samplesperpixel > 1 else plain
    if plain != ("ZYX" if series.keyframe.imagedepth > 1 else "YX"):
        whole = SeriesVoxels(path, axes, shape, tuple(picked.items()))
        return LazyArray(volume_shape, dtype.newbyteorder("="), whole), odd, about
    outside = axes[: len(axes) - len(inside)]
    counts = shape[: len(outside)]
    indices = np.arange(math.prod(counts)).reshape(counts)
    indices = indices[tuple(picked.get(letter, slice(None)) for letter in outside)]
    kept = "".join(letter for letter in outside if letter not in picked)
    indices = to_zyx(indices, kept) if "C" in kept else indices[np.newaxis]
    sample = next((picked[each] for each in inside if each in picked), None)
    several = "C" in inside and "C" not in picked
    parts = tuple(
        LazyArray(
            volume_shape[-3:] if "C" in kept else volume_shape,
            dtype.newbyteorder("="),
            PageVoxels(
                path,
                tuple(map(int, pages.ravel())),
                None if grey else sample,
                inverted=dtype.kind == "b" and _white_is_zero(series),
                colours=volume_shape[0] if several else 0,
            ),
        )
        for pages in indices
    )
    return (parts[0] if len(parts) == 1 else ChannelStack(parts)), odd, about


def _channel_names(
    tif: tifffile.TiffFile,
    series: Any,  # noqa: ANN401
    request: Request,
) -> list[str]:
    """Return the names of the channels that the metadata state, if all have one."""
    if tif.is_ome:
        found = [
            element.get("Name", "")
            for element in ET.fromstring(tif.ome_metadata or "").iter()
            if element.tag.rpartition("}")[2] == "Channel"
        ]
        if found and all(found):
            return found
    page = series.keyframe
    rgb = int(page.photometric) == int(tifffile.PHOTOMETRIC.RGB)
    if request.read_as is None and rgb and "C" not in series.axes:
        return colour_names(page.samplesperpixel)
    return []


def _named_axes(path: Path, series: Any) -> tuple[str, tuple[int, ...]]:  # noqa: ANN401
    """Return letters and lengths of the axes longer than 1; see `assumed_axes`."""
    letters = [letter.upper() for letter in series.axes]
    # A file of one voxel may state X twice.
    inner = {letter: place for place, letter in enumerate(letters) if letter in "YX"}
    pairs = [
        (letter, int(length))
        for place, (letter, length) in enumerate(
            zip(letters, series.shape, strict=True)
        )
        if length > 1 or inner.get(letter) == place
    ]
    axes = "".join(letter for letter, _ in pairs)
    unnamed = [letter for letter in axes if letter in _STACK_LETTERS]
    free = [letter for letter in assumed_axes(5)[:3] if letter not in axes]
    for letter, given in zip(unnamed[::-1], free[::-1], strict=False):
        before, _, after = axes.rpartition(letter)
        axes = f"{before}{given}{after}"
    if len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise AxisError(
            f"{path}: has axes {series.axes} of shape {tuple(series.shape)}; expected "
            "one volume of axes ZYX; write it to its own file"
        )
    return axes, tuple(length for _, length in pairs)


def _page_axes(series: Any, axes: str) -> str:  # noqa: ANN401
    """Return the letters of the axes that lie within one page."""
    page = series.keyframe
    kept = [
        letter
        for letter, length in zip(page.axes, page.shape, strict=True)
        if length > 1 or letter in "YX"
    ]
    return axes[len(axes) - len(kept) :]


def _white_is_zero(series: Any) -> bool:  # noqa: ANN401
    return int(series.keyframe.photometric) == int(tifffile.PHOTOMETRIC.MINISWHITE)


def _odd_tags(tif: tifffile.TiffFile) -> list[str]:
    """Return sentences about tags that change what other programs show."""
    odd = []
    turned = tif.pages.first.tags.valueof("Orientation", 1)
    if turned != 1:
        odd.append(
            f"its orientation tag is {int(turned)}, so some programs show it turned or "
            "mirrored, but its rows are read as stored"
        )
    facts = (tif.imagej_metadata or {}) if tif.is_imagej else {}
    line = [facts.get(name) for name in ("c0", "c1")]
    if facts.get("cf") == 0 and None not in line and line != [0, 1]:
        odd.append(
            f"ImageJ shows its values as {line[0]:g} + {line[1]:g} x the stored ones, "
            "and the stored ones are read"
        )
    return odd


def _odd_size(tif: tifffile.TiffFile) -> list[str]:
    """Return a sentence if the first page has more bytes than its size needs."""
    page: Any = tif.pages.first
    plain = page.compression == 1 and not page.is_tiled and not page.is_subsampled
    tag = page.tags.get("StripByteCounts")
    if not plain or tag is None or page.bitspersample % 8:
        return []
    stated, needed = int(np.sum(tag.value)), int(page.nbytes)
    # A page that stands for all slices may count the bytes of all.
    if stated <= needed or (stated % needed == 0 and len(tif.pages) == 1):
        return []
    height, width = page.imagelength, page.imagewidth
    return [
        f"its first page has {stated} bytes, but {height} x {width} pixels of "
        f"{page.bitspersample} bits need {needed}, so its header may state a wrong size"
    ]


def _odd_colours(series: Any) -> list[str]:  # noqa: ANN401
    """Return a sentence if the values of a file do not mean brightness."""
    page = series.keyframe
    if _white_is_zero(series):
        bits = np.dtype(series.dtype).kind == "b"
        how = "so its single bits are inverted" if bits else "but its values are read"
        shown = "as viewers show them" if bits else "as stored"
        return [f"0 means white in this file, {how} {shown}"]
    if int(page.photometric) == int(tifffile.PHOTOMETRIC.PALETTE):
        return [PALETTE]
    return []


def _grey_page(series: Any, axes: str, request: Request) -> bool:  # noqa: ANN401
    """Return whether no colour is asked for and those of the first page are equal."""
    page = series.keyframe
    asked = request.channel is not None or request.read_as is not None
    if "S" not in axes or asked or request.every_channel:
        return False
    colours = int(page.photometric) == int(tifffile.PHOTOMETRIC.RGB)
    if not colours and not (page.samplesperpixel == 2 and any(page.extrasamples)):
        return False
    check_memory(page.nbytes, f"{page.parent.filename}: a page")
    return all_grey(page.asarray(), page.samplesperpixel, page.axes.index("S"))

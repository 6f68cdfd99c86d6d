"""Walk a TIFF's chain of pages before a library does: loops, cuts, promises."""

import json
import math
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellseg3d.core.errors import FormatError
from cellseg3d.core.words import counted

# Bytes of TIFF's types 0 to 18; an unknown type takes none.
_TYPE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0])


def check_chain(path: Path) -> int:
    """Return the number of pages in a TIFF's chain.

    Raises
    ------
    FormatError
        If the chain comes back to a page, or leaves the file.
    """
    size = path.stat().st_size
    data: Any = np.memmap(path, np.uint8, "r")
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    version = struct.unpack_from(f"{order}H", data, 2)[0] if order else 0
    if version not in (42, 43) or size < 16:
        raise FormatError(f"{path}: not a TIFF header; is this another format?")
    big = version == 43
    width, count_form, next_form, first = (
        ("u8", f"{order}Q", f"{order}Q", 8)
        if big
        else ("u4", f"{order}H", f"{order}I", 4)
    )
    tag = np.dtype(
        [("code", "u2"), ("type", "u2"), ("count", width), ("value", width)]
    ).newbyteorder("<" if order == "<" else ">")
    offset = struct.unpack_from(next_form, data, first)[0]
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise FormatError(
                f"{path}: page {len(seen)} points back to an earlier page (a loop "
                "in the page chain); the file is damaged, copy it again"
            )
        seen.add(offset)
        try:
            count = struct.unpack_from(count_form, data, offset)[0]
            start = offset + struct.calcsize(count_form)
            tags = np.frombuffer(data, tag, count, start)
            _check_values(tags, size)
            after = start + count * tag.itemsize
            offset = struct.unpack_from(next_form, data, after)[0]
        except (struct.error, OverflowError, ValueError):
            raise FormatError(
                f"{path}: incomplete, page {len(seen) - 1} lies at byte {offset} "
                f"of {size}; copy it again"
            ) from None
    return len(seen)


def _check_values(tags: NDArray[Any], size: int) -> None:
    """Refuse a page of which a tag's value lies beyond the file's end."""
    kinds = np.minimum(tags["type"], len(_TYPE_BYTES) - 1)
    nbytes = _TYPE_BYTES[kinds] * tags["count"].astype(np.float64)
    apart = nbytes > tags["value"].dtype.itemsize
    if (apart & (tags["value"] + nbytes > size)).any():
        message = "a value beyond the end"
        raise ValueError(message)


def check_promises(path: Path, tif: tifffile.TiffFile, pages: int) -> None:
    """Refuse a file that holds fewer or more pages than its header promises.

    Parameters
    ----------
    path : Path
        The file, for messages.
    tif : TiffFile
        The same file, opened.
    pages : int
        The pages in its chain.

    Raises
    ------
    FormatError
        With both numbers; or if an OME header points to other files.
    """
    promised, kind = _promise(path, tif)
    if promised is None or promised == pages:
        return
    # One page may stand for many when the voxels follow it without a gap.
    if pages == 1 and promised > 1 and _holds(path, tif.pages[0], promised):
        return
    way_out = "copy it again or export it anew"
    if promised < pages:
        way_out = "export it anew, so that no page is left out"
    raise FormatError(
        f"{path}: its {kind} header promises {counted(promised, 'page')}, the file "
        f"holds {pages}; {way_out}"
    )


def _promise(path: Path, tif: tifffile.TiffFile) -> tuple[int | None, str]:
    """Return how many pages a header promises, if it does, and whose header it is."""
    if tif.is_ome:
        planes, samples = _ome_planes(path, tif.ome_metadata or "")
        return planes // max(samples, 1), "OME"
    if tif.is_imagej:
        stated = (tif.imagej_metadata or {}).get("images")
        return (None if stated is None else int(stated)), "ImageJ"
    return _shaped_promise(tif), "JSON"


def _shaped_promise(tif: tifffile.TiffFile) -> int | None:
    """Return how many pages the shape that tifffile writes promises, if it does."""
    page: Any = tif.pages.first
    text = getattr(page, "shaped_description", None)
    try:
        shape = json.loads(str(text))["shape"]
        promised = math.prod(map(int, shape)) // max(1, int(page.size))
    except (ValueError, KeyError, TypeError):
        return None
    later: Any = tif.pages[promised] if promised < len(tif.pages) else None
    # The next page begins another image, of which its own description speaks.
    if later is not None and getattr(later, "shaped_description", None):
        return None
    return promised


def check_every_page(path: Path, series: Any, pages: int) -> None:  # noqa: ANN401
    """Refuse a file of which a page belongs to no slice, or a slice has no page.

    Parameters
    ----------
    path : Path
        The file, for messages.
    series : tifffile's series
        The only one of the file.
    pages : int
        The pages in its chain.

    Raises
    ------
    FormatError
        With the numbers.
    """
    used = max(1, int(series.size) // max(1, int(series.keyframe.size)))
    if used < pages:
        raise FormatError(
            f"{path}: its header speaks of {counted(used, 'page')}, the file holds "
            f"{pages}; export it anew, so that no page is left out"
        )
    if series.dataoffset is None:
        absent = [number for number in range(used) if series.pages[number] is None]
        if absent:
            raise FormatError(
                f"{path}: its header says of {len(absent)} of {used} planes (the first "
                f"is {absent[0]}) not where they lie; export it anew"
            )


def _holds(path: Path, page: Any, planes: int) -> bool:  # noqa: ANN401
    if not page.is_contiguous:
        return False
    return bool(path.stat().st_size >= page.dataoffsets[0] + planes * page.nbytes)


def _ome_planes(path: Path, xml: str) -> tuple[int, int]:
    """Return the planes that OME-XML promises and the samples of each pixel."""
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise FormatError(f"{path}: its OME-XML is broken ({error})") from error
    own, uuid = path.name, root.get("UUID")
    planes, samples = 0, 1
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        # A file that was renamed still names itself as before: the UUID decides.
        if tag == "UUID" and (uuid is None or element.text != uuid):
            other = element.get("FileName", own)
            if uuid is not None or Path(other).name != own:
                raise FormatError(
                    f"{path}: its OME header points to another file ({other}); export "
                    "the volume into one file"
                )
        if tag == "Channel":
            samples = int(element.get("SamplesPerPixel", "1"))
        if tag == "Pixels":
            sizes = [int(element.get(f"Size{letter}", "1")) for letter in "ZCT"]
            planes += sizes[0] * sizes[1] * sizes[2]
    return planes, samples

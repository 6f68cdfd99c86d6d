"""Walk a TIFF's chain of pages before a library does: loops, cuts, promises."""

import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellseg3d.core.errors import FormatError

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
    """Refuse a file whose ImageJ or OME header promises more pages than there are.

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
    if tif.is_ome:
        promised, samples = _ome_planes(path, tif.ome_metadata or "")
        promised = promised // max(samples, 1)
        kind = "OME"
    elif tif.is_imagej:
        promised = int((tif.imagej_metadata or {}).get("images", 1))
        kind = "ImageJ"
    else:
        return
    # One page may stand for many when the voxels follow it without a gap.
    if promised > pages and not (pages == 1 and _holds(path, tif.pages[0], promised)):
        raise FormatError(
            f"{path}: its {kind} header promises {promised} pages, the file holds "
            f"{pages}; copy it again or export it anew"
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
    own = path.name
    planes, samples = 0, 1
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        if tag == "UUID":
            other = element.get("FileName", own)
            if other != own and Path(other).name != own:
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

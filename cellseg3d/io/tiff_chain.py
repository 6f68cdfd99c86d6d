"""Walk a TIFF's chain of pages before a library does: loops, cuts, promises."""

import mmap
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import tifffile

from cellseg3d.core.errors import FormatError


def check_chain(path: Path) -> int:
    """Return the number of pages in a TIFF's chain.

    Raises
    ------
    FormatError
        If the chain comes back to a page, or leaves the file.
    """
    size = path.stat().st_size
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        version = struct.unpack(f"{order}H", data[2:4])[0] if order else 0
        if version not in (42, 43) or size < 16:
            raise FormatError(f"{path}: not a TIFF header; is this another format?")
        big = version == 43
        count_form, entry, next_form, first = (
            (f"{order}Q", 20, f"{order}Q", 8)
            if big
            else (f"{order}H", 12, f"{order}I", 4)
        )
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
                entries = struct.unpack_from(count_form, data, offset)[0]
                after = offset + struct.calcsize(count_form) + entries * entry
                offset = struct.unpack_from(next_form, data, after)[0]
            except (struct.error, OverflowError):
                raise FormatError(
                    f"{path}: incomplete, page {len(seen) - 1} lies at byte {offset} "
                    f"of {size}; copy it again"
                ) from None
    return len(seen)


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

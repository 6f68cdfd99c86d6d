"""Check the chain of pages of a TIFF: it must be whole and fit the header."""

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

# The bytes of a value of TIFF's types 0 to 18; 0 for unknown types.
_TYPE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0])


def check_chain(path: Path) -> int:
    """Return the number of pages of a TIFF, which form a chain.

    Raises
    ------
    FormatError
        If the chain is a loop or leads out of the file.
    """
    size = path.stat().st_size
    data: Any = np.memmap(path, np.uint8, "r")
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    version = struct.unpack_from(f"{order}H", data, 2)[0] if order else 0
    if version not in (42, 43) or size < 16:
        raise FormatError(
            f"{path}: has no TIFF header; copy it again, or rename it if it has "
            "another format"
        )
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
                f"{path}: its page {len(seen)} points back to an earlier page, so the "
                "pages form a loop and the file is damaged; copy it again"
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
                f"{path}: is incomplete, since page {len(seen) - 1} begins at byte "
                f"{offset} of {size}; copy it again"
            ) from None
    return len(seen)


def _check_values(tags: NDArray[Any], size: int) -> None:
    """Raise an error if the value of a tag lies beyond the end of the file."""
    kinds = np.minimum(tags["type"], len(_TYPE_BYTES) - 1)
    nbytes = _TYPE_BYTES[kinds] * tags["count"].astype(np.float64)
    apart = nbytes > tags["value"].dtype.itemsize
    if (apart & (tags["value"] + nbytes > size)).any():
        message = "a value lies beyond the end of the file"
        raise ValueError(message)


def check_promises(path: Path, tif: tifffile.TiffFile, pages: int) -> None:
    """Raise an error if a file holds fewer or more pages than its header states.

    Parameters
    ----------
    path : Path
        The file, for messages.
    tif : TiffFile
        The same file, opened.
    pages : int
        The number of pages in the file.

    Raises
    ------
    FormatError
        With both numbers, or if an OME header points to other files.
    """
    promised, kind = _promise(path, tif)
    if promised is None or promised == pages:
        return
    # A single page may describe many if their voxels follow without a gap.
    if pages == 1 and promised > 1 and _holds(path, tif.pages[0], promised):
        return
    way_out = "copy it again or export it again"
    if promised < pages:
        way_out = "export it again, so that the header counts all pages"
    raise FormatError(
        f"{path}: its {kind} header states {counted(promised, 'page')}, but the file "
        f"holds {pages}; {way_out}"
    )


def _promise(path: Path, tif: tifffile.TiffFile) -> tuple[int | None, str]:
    """Return how many pages the header states, or None, and the header's format."""
    if tif.is_ome:
        planes, samples = _ome_planes(path, tif.ome_metadata or "")
        return planes // max(samples, 1), "OME"
    # OME has no ids of 64 bits, so a file of them is written with tifffile's header.
    named_ome = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    if named_ome and not tif.is_shaped:
        raise FormatError(
            f"{path}: is named OME-TIFF but holds no OME header, so nobody knows how "
            "many pages it had; copy it again, or rename it to .tif if it never had one"
        )
    if tif.is_imagej:
        stated = (tif.imagej_metadata or {}).get("images")
        return (None if stated is None else int(stated)), "ImageJ"
    return _shaped_promise(tif), "JSON"


def _shaped_promise(tif: tifffile.TiffFile) -> int | None:
    """Return how many pages the shape in tifffile's own header means, or None."""
    page: Any = tif.pages.first
    text = getattr(page, "shaped_description", None)
    try:
        shape = json.loads(str(text))["shape"]
        promised = math.prod(map(int, shape)) // max(1, int(page.size))
    except (ValueError, KeyError, TypeError):
        return None
    later: Any = tif.pages[promised] if promised < len(tif.pages) else None
    # The next page begins another image and has a description of its own, or it is a
    # thumbnail.
    if later is not None and (
        getattr(later, "shaped_description", None) or later.is_reduced
    ):
        return None
    return promised


def check_every_page(path: Path, series: Any, pages: int) -> None:  # noqa: ANN401
    """Raise an error if a page belongs to no slice, or a slice has no page.

    Parameters
    ----------
    path : Path
        The file, for messages.
    series : tifffile.TiffPageSeries
        The only series of the file.
    pages : int
        The number of pages in the file.

    Raises
    ------
    FormatError
        With the numbers.
    """
    used = max(1, int(series.size) // max(1, int(series.keyframe.size)))
    if used < pages:
        raise FormatError(
            f"{path}: its header states {counted(used, 'page')}, but the file holds "
            f"{pages}; export it again, so that the header counts all pages"
        )
    if series.dataoffset is None:
        absent = [number for number in range(used) if series.pages[number] is None]
        if absent:
            raise FormatError(
                f"{path}: its header does not state where {len(absent)} of {used} "
                f"slices lie (the first is {absent[0]}); export it again"
            )


def _holds(path: Path, page: Any, planes: int) -> bool:  # noqa: ANN401
    if not page.is_contiguous:
        return False
    return bool(path.stat().st_size >= page.dataoffsets[0] + planes * page.nbytes)


def _ome_planes(path: Path, xml: str) -> tuple[int, int]:
    """Return the number of slices that OME-XML states and the samples of a pixel."""
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise FormatError(
            f"{path}: its OME-XML cannot be read ({error}); export it again"
        ) from error
    own, uuid = path.name, root.get("UUID")
    planes, samples = 0, 1
    elsewhere = next((each for each in root if _tag(each) == "BinaryOnly"), None)
    if elsewhere is not None:
        raise FormatError(
            f"{path}: is a part of a volume that is described in another file "
            f"({elsewhere.get('MetadataFile', 'unknown')}); export the volume into one "
            "file"
        )
    for element in root.iter():
        tag = _tag(element)
        # A renamed file still holds its old name, so the UUID decides.
        if tag == "UUID" and (uuid is None or element.text != uuid):
            other = element.get("FileName", own)
            if uuid is not None or Path(other).name != own:
                raise FormatError(
                    f"{path}: its OME header points to another file ({other}); export "
                    "the volume into one file"
                )
        if tag == "Channel":
            samples = _count(path, element, "SamplesPerPixel")
        if tag == "Pixels":
            sizes = [_count(path, element, f"Size{letter}") for letter in "ZCT"]
            planes += sizes[0] * sizes[1] * sizes[2]
    return planes, samples


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _count(path: Path, element: ET.Element, key: str) -> int:
    found = element.get(key, "1")
    if not found.strip().isdecimal():
        raise FormatError(
            f"{path}: its OME-XML states {found!r} as {key}; expected a number; export "
            "it again"
        )
    return int(found)

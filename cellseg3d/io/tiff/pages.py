"""Read only those tiles or strips of TIFF pages that lie in a region."""

import contextlib
import itertools
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellseg3d.core.axes import to_zyx
from cellseg3d.core.errors import AxisError, CellSegError, FormatError
from cellseg3d.core.memory import check_memory
from cellseg3d.io.damage import damaged, is_read_error, reading
from cellseg3d.io.lazy import Box
from cellseg3d.io.picking import all_grey

# LZW and LZMA, as numbers of TIFF.
_FILL = (5, 34925)


@dataclass(frozen=True)
class PageVoxels:
    """A reader of voxels in compressed or tiled pages, one page for each slice.

    It keeps the file open; a copy in another process opens the file again.

    Parameters
    ----------
    path : Path
        The file.
    pages : tuple of int
        The index in the file's series of each slice's page, or of each page if a page
        holds several slices (volumetric tiles).
    sample : int or None
        The colour to read. None reads colours that are all equal as grey.
    inverted : bool
        Whether voxels are single bits of which 0 is white.
    colours : int
        The number of colours, if all are read, else 0. A box then has four slices.
    """

    path: Path
    pages: tuple[int, ...]
    sample: int | None = None
    inverted: bool = False
    colours: int = 0
    _open: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        facts = (self.path, self.pages, self.sample, self.inverted, self.colours)
        return (PageVoxels, facts)

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in a box of slices (z, y, x) or (c, z, y, x)."""
        *channels, depth, rows, columns = box
        with self._lock, quiet():
            series = self._series()
            thick = series.keyframe.imagedepth
            sides = [len(range(*_ends(part))) for part in box]
            out = np.empty(sides, series.dtype)
            for place, z in enumerate(range(*_ends(depth))):
                number, inside = divmod(z, thick)
                out[..., place, :, :] = self._page(
                    series, self.pages[number], inside, (*channels, rows, columns)
                )
        return ~out if self.inverted else out

    def _series(self) -> Any:  # noqa: ANN401
        process = os.getpid()
        if process not in self._open:
            self._open.clear()
            tif = open_pages(self.path)
            self._open[process] = tif
            weakref.finalize(self, tif.close)
        return self._open[process].series[0]

    def _page(
        self,
        series: Any,  # noqa: ANN401
        number: int,
        inside: int,
        region: Box,
    ) -> NDArray[Any]:
        """Return a region (y, x) or (c, y, x) of a page."""
        try:
            page = series.pages[number]
            key = page.keyframe
            if key.samplesperpixel == 1:
                return _segments(page, key, inside, *region[-2:])
            plane = page.asarray()
        except CellSegError:
            raise
        except Exception as error:
            if not is_read_error(error):
                raise
            raise damaged(self.path, error, f"page {number}") from error
        axis = key.axes.index("S")
        if self.colours:
            every: NDArray[Any] = np.moveaxis(plane, axis, 0)
            every = every[:, inside] if every.ndim == 4 else every
            return every[region]
        if self.sample is None and not all_grey(plane, key.samplesperpixel, axis):
            raise AxisError(
                f"{self.path}: its page {number} is in colour; choose one with "
                f"`channel` (0..{key.samplesperpixel - 1})"
            )
        picked: NDArray[Any] = plane.take(self.sample or 0, axis=axis)
        return (picked[inside] if picked.ndim == 3 else picked)[region]


@dataclass(frozen=True)
class SeriesVoxels:
    """A reader that decodes a whole series, for instance if colours are slices.

    Parameters
    ----------
    path : Path
        The file.
    axes : str
        The letters of the series' axes, without axes of one voxel.
    shape : tuple of int
        The lengths of these axes.
    picked : tuple of (str, int)
        The index to read along each axis that the volume does not have.
    """

    path: Path
    axes: str
    shape: tuple[int, ...]
    picked: tuple[tuple[str, int], ...]

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in a box of slices (z, y, x) or (c, z, y, x)."""
        with quiet(), reading(self.path), open_pages(self.path) as tif:
            series = tif.series[0]
            check_memory(int(series.nbytes), str(self.path))
            found = series.asarray().reshape(self.shape)
        kept = self.axes
        for letter, index in self.picked:
            found = found.take(index, axis=kept.index(letter))
            kept = kept.replace(letter, "")
        return to_zyx(found, kept)[box]


def open_pages(path: Path) -> tifffile.TiffFile:
    """Open a TIFF so that its first series is the volume in it.

    Programs that write a stack page by page with tifffile make a series of each page.
    If all pages are alike, they are the slices of one series, as for other programs.
    """
    tif = tifffile.TiffFile(path)
    if not written_page_by_page(tif):
        return tif
    tif.close()
    return tifffile.TiffFile(path, is_shaped=False)


def written_page_by_page(tif: tifffile.TiffFile) -> bool:
    """Return whether each series of a TIFF is one page, and all of them are alike."""
    if not tif.is_shaped or len(tif.series) < 2:
        return False
    pages = [series.keyframe for series in tif.series]
    first = pages[0]
    return all(
        len(series) == 1
        and page.shape == first.shape
        and page.dtype == first.dtype
        and page.photometric == first.photometric
        and not page.is_reduced
        for series, page in zip(tif.series, pages, strict=True)
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the log messages of tifffile, since this package checks the same itself."""
    logger = logging.getLogger("tifffile")
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was


def _segments(
    page: Any,  # noqa: ANN401
    key: Any,  # noqa: ANN401
    z: int,
    rows: slice,
    columns: slice,
) -> NDArray[Any]:
    """Return a region of a slice; only the tiles or strips in it are decoded.

    Parameters
    ----------
    page : tifffile.TiffPage
    key : tifffile.TiffPage
        The key frame of the page.
    z : int
        The index of the slice in a page of volumetric tiles, else 0.
    rows, columns : slice
        The region, with start, stop and step.
    """
    if key.dtype is None:
        raise FormatError(
            f"{page.parent.filename}: no number has {key.bitspersample} bits in sample "
            f"format {key.sampleformat}; export it again"
        )
    depth, height, width = _segment_shape(key)
    check_memory(
        depth * height * width * key.dtype.itemsize, f"{page.parent.filename}: a tile"
    )
    down, across = -(-key.imagelength // height), -(-key.imagewidth // width)
    wanted = [
        (z // depth * down + row) * across + column
        for row, column in itertools.product(
            _touched(rows, height), _touched(columns, width)
        )
    ]
    top, left = rows.start, columns.start
    out = np.zeros((rows.stop - top, columns.stop - left), key.dtype)
    if not out.size:
        return out
    missing = [each for each in wanted if each >= len(page.dataoffsets)]
    if missing:
        raise tifffile.TiffFileError(f"strip or tile {missing[0]} is missing")
    segments = page.parent.filehandle.read_segments(
        [page.dataoffsets[each] for each in wanted],
        [page.databytecounts[each] for each in wanted],
        indices=wanted,
        sort=True,
    )
    for data, index in segments:
        if data is None or len(data) < page.databytecounts[index]:
            raise tifffile.TiffFileError(f"strip or tile {index} is incomplete")
        if index == wanted[0]:
            _check_unpacked(page, key, data, index, (depth, height, width))
        decoded, place, shape = key.decode(
            data, index, jpegtables=key.jpegtables, jpegheader=key.jpegheader
        )
        y, x = place[2], place[3]
        tile = decoded[z % depth, : shape[1], : shape[2], 0]
        _paste(out, tile, y - top, x - left)
    return out[:: rows.step, :: columns.step]


def _check_unpacked(
    page: Any,  # noqa: ANN401
    key: Any,  # noqa: ANN401
    data: bytes,
    index: int,
    shape: tuple[int, int, int],
) -> None:
    """Raise an error if a strip or tile unpacks to more bytes than its voxels need.

    Other methods of compression find this themselves; these two fill what is asked for
    and stop.

    Raises
    ------
    tifffile.TiffFileError
        With both sizes.
    """
    if key.compression not in _FILL:
        return
    depth, height, width = shape
    row = -(-width * key.samplesperpixel * key.bitspersample // 8)
    needed = depth * height * row
    found = len(tifffile.TIFF.DECOMPRESSORS[key.compression](data))
    if found >= needed + row:
        raise tifffile.TiffFileError(
            f"strip or tile {index} of page {page.index} unpacks to {found} bytes, but "
            f"its {depth} x {height} x {width} voxels of {key.bitspersample} bits need "
            f"{needed}"
        )


def _segment_shape(key: Any) -> tuple[int, int, int]:  # noqa: ANN401
    """Return the shape (z, y, x) of a page's tiles or strips."""
    if key.is_tiled:
        return max(1, key.tiledepth), key.tilelength, key.tilewidth
    # A strip holds a slice, or some rows of it, also if the page holds several slices.
    return 1, min(key.rowsperstrip, key.imagelength), key.imagewidth


def _paste(out: NDArray[Any], tile: NDArray[Any], y: int, x: int) -> None:
    """Copy a tile whose corner is (y, x) into `out`, as far as it lies inside."""
    y0, x0 = max(0, y), max(0, x)
    y1, x1 = min(out.shape[0], y + tile.shape[0]), min(out.shape[1], x + tile.shape[1])
    out[y0:y1, x0:x1] = tile[y0 - y : y1 - y, x0 - x : x1 - x]


def _touched(part: slice, size: int) -> range:
    return range(part.start // size, -(-part.stop // size))


def _ends(part: slice) -> tuple[int, int, int]:
    return (part.start, part.stop, part.step)

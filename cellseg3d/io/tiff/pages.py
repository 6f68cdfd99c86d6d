"""Read the tiles or strips of TIFF pages that meet a region, and no others."""

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

from cellseg3d.core.errors import CellSegError, FormatError
from cellseg3d.core.memory import check_memory
from cellseg3d.io.lazy import Box


@dataclass(frozen=True)
class PageVoxels:
    """Voxels in compressed, tiled or scattered pages, one page a slice.

    The open file belongs to one process; a copy sent to another opens its own.

    Parameters
    ----------
    path : Path
        The file.
    pages : tuple of int
        For each slice along z, the index of its page in the first series.
    sample : int or None
        Which colour of a page that holds several.
    """

    path: Path
    pages: tuple[int, ...]
    sample: int | None = None
    _open: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (PageVoxels, (self.path, self.pages, self.sample))

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in `box`, three slices (z, y, x)."""
        depth, rows, columns = box
        numbers = self.pages[depth]
        with self._lock, quiet():
            series = self._series()
            found = [self._page(series, number, rows, columns) for number in numbers]
            empty = (0, len(range(*_ends(rows))), len(range(*_ends(columns))))
            return np.stack(found) if found else np.empty(empty, series.dtype)

    def _series(self) -> Any:  # noqa: ANN401
        process = os.getpid()
        if process not in self._open:
            self._open.clear()
            tif = tifffile.TiffFile(self.path)
            self._open[process] = tif
            weakref.finalize(self, tif.close)
        return self._open[process].series[0]

    def _page(
        self,
        series: Any,  # noqa: ANN401
        number: int,
        rows: slice,
        columns: slice,
    ) -> NDArray[Any]:
        try:
            page = series.pages[number]
            key = page.keyframe
            if key.samplesperpixel > 1 or key.imagedepth > 1:
                plane = _sample(page.asarray(), key, self.sample)
                return plane[rows, columns]
            return _segments(page, key, rows, columns)
        except CellSegError:
            raise
        except Exception as error:  # codecs raise whatever they like
            raise FormatError(
                f"{self.path}: page {number} cannot be read "
                f"({type(error).__name__}: {error}); copy the file again"
            ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep tifffile from logging what is raised or checked here anyway."""
    logger = logging.getLogger("tifffile")
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was


def _sample(plane: NDArray[Any], key: Any, sample: int | None) -> NDArray[Any]:  # noqa: ANN401
    place = key.axes.index("S")
    picked: NDArray[Any] = plane.take(sample or 0, axis=place)
    return picked


def _segments(page: Any, key: Any, rows: slice, columns: slice) -> NDArray[Any]:  # noqa: ANN401
    """Return one page's voxels in a region, decoding only what meets it."""
    height, width = (
        (key.tilelength, key.tilewidth)
        if key.is_tiled
        else (key.rowsperstrip, key.imagewidth)
    )
    height = min(height, key.imagelength) if not key.is_tiled else height
    check_memory(height * width * key.dtype.itemsize, f"{page.parent.filename}: a tile")
    across = -(-key.imagewidth // width)
    wanted = [
        row * across + column
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
        message = f"strip or tile {missing[0]} is not in the file"
        raise ValueError(message)
    segments = page.parent.filehandle.read_segments(
        [page.dataoffsets[each] for each in wanted],
        [page.databytecounts[each] for each in wanted],
        indices=wanted,
        sort=True,
    )
    for data, index in segments:
        if data is None or len(data) < page.databytecounts[index]:
            message = f"strip or tile {index} is cut short"
            raise ValueError(message)
        decoded, place, shape = key.decode(
            data, index, jpegtables=key.jpegtables, jpegheader=key.jpegheader
        )
        y, x = place[2], place[3]
        _paste(out, decoded[0, : shape[1], : shape[2], 0], y - top, x - left)
    return out[:: rows.step, :: columns.step]


def _paste(out: NDArray[Any], tile: NDArray[Any], y: int, x: int) -> None:
    """Put the part of a tile that meets `out`, the tile's corner being (y, x)."""
    y0, x0 = max(0, y), max(0, x)
    y1, x1 = min(out.shape[0], y + tile.shape[0]), min(out.shape[1], x + tile.shape[1])
    out[y0:y1, x0:x1] = tile[y0 - y : y1 - y, x0 - x : x1 - x]


def _touched(part: slice, size: int) -> range:
    return range(part.start // size, -(-part.stop // size))


def _ends(part: slice) -> tuple[int, int, int]:
    return (part.start, part.stop, part.step)

"""Which chunk files of a Zarr array are there, and which are left out on purpose."""

import itertools
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import FormatError

# Attribute of an array: the chunks (shards) of zeros that its writer left out.
EMPTY = "cellseg3d_empty"
# Blosc begins each chunk with 16 bytes; the last number is the size of the chunk.
_BLOSC = struct.Struct("<12xI")


def chunk_counts(shape: Sequence[int], units: Sequence[int]) -> list[int]:
    """Return how many chunks an array has along each axis."""
    return [-(-length // unit) for length, unit in zip(shape, units, strict=True)]


def chunk_places(folder: Path, axes: int) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the chunks whose files lie in an array's folder."""
    for place, _, names in os.walk(folder):
        here = Path(place).relative_to(folder)
        for name in names:
            words = re.split(r"[./]", (here / name).as_posix().removeprefix("c/"))
            if len(words) == axes and all(word.isdecimal() for word in words):
                yield tuple(map(int, words))


def touched_chunks(
    key: Sequence[int | slice], units: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the chunks of a shape that lie in a region."""
    ranges = [
        range(each // unit, each // unit + 1)
        if isinstance(each, int)
        else range(each.start // unit, -(-each.stop // unit))
        for each, unit in zip(key, units, strict=True)
    ]
    yield from itertools.product(*ranges)


def ends_in_blosc(array: Any) -> bool:  # noqa: ANN401 - a zarr.Array
    """Return whether each chunk file of an array is one block of Blosc."""
    codecs = array.compressors
    return bool(
        array.shards is None and codecs and "blosc" in type(codecs[-1]).__name__.lower()
    )


def check_blosc(file: Path) -> None:
    """Raise an error if a chunk has another size than its own header states.

    Blosc has no checksum, and its library decodes a block that is cut without an error
    to whatever lies behind it in memory. A missing file is no fault here.

    Raises
    ------
    FormatError
        With both sizes.
    """
    try:
        with file.open("rb") as chunk:
            head = chunk.read(_BLOSC.size)
        size = file.stat().st_size
    except FileNotFoundError:
        return
    stated = _BLOSC.unpack(head)[0] if len(head) == _BLOSC.size else _BLOSC.size
    if size != stated:
        raise FormatError(
            f"{file}: is a damaged chunk, with {size} bytes where its header states "
            f"{stated}; copy it again"
        )

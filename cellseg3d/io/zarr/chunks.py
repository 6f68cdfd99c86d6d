"""Which chunk files of a Zarr array are there, and which are left out on purpose."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

# Attribute of an array: the chunks (shards) of zeros that its writer left out.
EMPTY = "cellseg3d_empty"


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

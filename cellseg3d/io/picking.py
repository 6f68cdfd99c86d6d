"""Settle what the axes of a file are, and pick one channel or time point."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.io.layout import Request

_NAMES = {"C": "channels", "S": "channels (colours)", "T": "time points"}
_MEANT = {"slices": "Z", "channels": "C", "times": "T"}
_LETTERS = frozenset("TCZYXS")
GREY = "its colour channels are equal: read as grey"
PALETTE = "its palette's indices are read, not the colours that they stand for"


def check_read_as(word: str | None) -> None:
    """Refuse a word that no file's axes can be read as.

    Raises
    ------
    ConfigError
        If it is none of ``slices``, ``channels``, ``times`` and no axes' letters.
    """
    if word is None or word in _MEANT:
        return
    letters = word.upper()
    known = set(letters) <= _LETTERS and {"Y", "X"} <= set(letters)
    if not known or len(set(letters)) != len(letters):
        message = (
            f"`read_as` is {word!r}; expected slices, channels, times, or a letter for "
            "each axis of the file, slowest first, such as zyxc"
        )
        raise ConfigError(message)


def pick_axes(
    path: Path, axes: str, shape: Sequence[int], request: Request
) -> tuple[str, dict[str, int]]:
    """Return the axes as they are meant, and the index to take along the others.

    Parameters
    ----------
    path : Path
        The file, for messages.
    axes : str
        One letter an axis, as the file says or its format implies.
    shape : sequence of int
        Their lengths.
    request : Request
        Its `read_as` renames an axis; its `channel` is the index wanted along the one
        axis that is none of Z, Y and X and longer than 1.

    Returns
    -------
    axes : str
        One letter an axis, of which Z, Y and X make the volume.
    picked : dict of str to int
        The index along each of the other axes.

    Raises
    ------
    AxisError
        If there is such an axis and no channel is named, if the named one does not
        exist, if there are several such axes, or if `read_as` does not fit the file.
    """
    lengths = list(map(int, shape))
    settled = _renamed(path, axes, lengths, request.read_as)
    return settled, _picked(path, settled, lengths, request.channel)


def all_grey(pixels: NDArray[Any], samples: int, axis: int = -1) -> bool:
    """Return whether all colours of an image are equal, and nothing is transparent.

    Parameters
    ----------
    pixels : ndarray of integers, shape with the samples along `axis`
        The last of 2 or 4 samples is opacity.
    samples : int
        How many there are.
    axis : int
    """
    lying = np.moveaxis(pixels, axis, -1)
    count = samples - (samples in (2, 4))
    colours, opacity = lying[..., :count], lying[..., count:]
    grey = bool((colours == colours[..., :1]).all())
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return grey and bool((opacity == opaque).all())


def _renamed(path: Path, axes: str, shape: list[int], word: str | None) -> str:
    """Return the axes with the names that the user gives them."""
    if word is None:
        return axes
    check_read_as(word)
    found = f"{path}: axes {axes}, shape {tuple(shape)}"
    if word not in _MEANT:
        if len(word) != len(axes):
            raise AxisError(
                f"{found}; `read_as` {word!r} names {len(word)} axes, give one letter "
                "for each"
            )
        return word.upper()
    letter = _MEANT[word]
    long = [
        each
        for each, length in zip(axes, shape, strict=True)
        if length > 1 and each not in "YX" and each != letter
    ]
    if letter in axes and shape[axes.index(letter)] > 1:
        if not long or letter != "Z":
            return axes  # it is what the file says already
        raise AxisError(
            f"{found}; it has slices already, so {_NAMES.get(long[0], long[0])} cannot "
            "be slices too: pick one with `channel`"
        )
    if len(long) != 1:
        raise AxisError(
            f"{found}; {len(long)} axes could be {word}: give `read_as` a letter for "
            "each axis instead, such as tzyx"
        )
    unused = next(each for each in "TCSVUWIQ" if each not in axes)
    free = axes.replace(letter, unused)
    return free.replace(long[0], letter)


def _picked(
    path: Path, axes: str, shape: Sequence[int], channel: int | None
) -> dict[str, int]:
    lengths = dict(zip(axes, shape, strict=True))
    extra = [letter for letter in axes if letter not in "ZYX"]
    several = [letter for letter in extra if lengths[letter] > 1]
    if not several and channel:
        raise AxisError(f"{path}: has one channel; channel {channel} does not exist")
    if not several:
        return dict.fromkeys(extra, 0)
    what = " and ".join(
        f"{lengths[letter]} {_NAMES.get(letter, f'entries along {letter}')}"
        for letter in several
    )
    found = f"{path}: {what} (axes {axes}, shape {tuple(lengths.values())})"
    if len(several) > 1:
        raise AxisError(
            f"{found}; expected one volume: write one to its own file, or say what the "
            "axes are with `read_as`, such as tzyx"
        )
    count = lengths[several[0]]
    if channel is None:
        # More slices than one beside it: the other axis cannot be slices as well.
        slices = (
            "" if lengths.get("Z", 1) > 1 else ", or say `read_as` slices if they are"
        )
        raise AxisError(
            f"{found}; expected one: pick it with `channel` (0..{count - 1}){slices}"
        )
    if not 0 <= channel < count:
        raise AxisError(f"{found}; channel {channel} is none of 0..{count - 1}")
    return {**dict.fromkeys(extra, 0), several[0]: channel}


def chunk_note(axes: str, chunk: Sequence[int] | None) -> dict[str, Any]:
    """Return the provenance entry of a file's chunks: their shape (z, y, x)."""
    if not chunk:
        return {}
    sides = dict(zip(axes, map(int, chunk), strict=True))
    return {"chunk": tuple(sides.get(letter, 1) for letter in "ZYX")}

"""Decide what the axes of a file are, and choose one channel or time point."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.io.layout import Request

_NAMES = {"C": "channels", "S": "channels (colours)", "T": "time points"}
_MEANT = {"slices": "Z", "channels": "C", "times": "T"}
_LETTERS = frozenset("TCZYXS")
# A last axis of at most so many voxels may be the colours of a pixel.
MOST_COLOURS = 4
GREY = "its colour channels are equal, so it is read as grey"
PALETTE = "it has a palette: the indices of the colours are read, not the colours"


def check_read_as(word: str | None) -> None:
    """Raise an error if a word does not describe the axes of a file.

    Raises
    ------
    ConfigError
        If it is neither ``slices``, ``channels`` or ``times`` nor letters of axes.
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


def assumed_axes(count: int) -> str:
    """Return the letters of axes that a file does not name: the last of T, C, Z, Y, X.

    Parameters
    ----------
    count : int
        The number of axes, 2 to 5.
    """
    return "TCZYX"[-count:]


def doubted_axes(shape: Sequence[int]) -> list[str]:
    """Return a sentence if unnamed axes of a file may end in colours, else nothing.

    Parameters
    ----------
    shape : sequence of int
        The lengths of the axes, of which no file says what they are.
    """
    if len(shape) < 3 or not 1 < shape[-1] <= MOST_COLOURS < min(shape[-3:-1]):
        return []
    axes = assumed_axes(len(shape)).lower()
    other = ("tzyxc" if len(shape) > 3 else "yxc")[-len(shape) :]
    return [
        f"it does not state its axes, which are read as {axes}, so an image has "
        f"{shape[-1]} columns; say `read_as` {other} if these are colours"
    ]


def pick_axes(
    path: Path, axes: str, shape: Sequence[int], request: Request
) -> tuple[str, dict[str, int]]:
    """Return the letters of a file's axes, and the index along those not in Z, Y, X.

    Parameters
    ----------
    path : Path
        The file, for messages.
    axes : str
        One letter for each axis, as the file states or its format implies.
    shape : sequence of int
        The lengths of the axes.
    request : Request
        Its `read_as` renames an axis. Its `channel` is the index along the one axis
        that is not Z, Y or X and is longer than 1.

    Returns
    -------
    axes : str
        One letter for each axis; Z, Y and X are those of the volume.
    picked : dict of str to int
        The index along each of the other axes.

    Raises
    ------
    AxisError
        If several channels exist and none is named, if the named one does not exist,
        if several other axes are longer than 1, or if `read_as` does not fit the file.
    """
    lengths = list(map(int, shape))
    settled = _renamed(path, axes, lengths, request.read_as)
    return settled, _picked(path, settled, lengths, request.channel)


def index_of_box(
    axes: str, picked: Mapping[str, int], box: Sequence[slice]
) -> tuple[tuple[int | slice, ...], str]:
    """Return the index of a box in a file's array, and the axes of what it gives.

    Parameters
    ----------
    axes : str
        One letter for each axis of the array.
    picked : mapping of str to int
        The index along each axis that is not Z, Y or X.
    box : sequence of slice
        The voxels (z, y, x).

    Examples
    --------
    >>> index_of_box("YXC", {"C": 1}, (slice(0, 1), slice(2, 4), slice(5, 9)))
    ((slice(2, 4, None), slice(5, 9, None), 1), 'YX')
    """
    place: dict[str, int | slice] = dict(zip("ZYX", box, strict=True))
    place.update(picked)
    kept = "".join(letter for letter in axes if letter not in picked)
    return tuple(place[letter] for letter in axes), kept


def all_grey(pixels: NDArray[Any], samples: int, axis: int = -1) -> bool:
    """Return whether all colours of an image are equal and no pixel is transparent.

    Parameters
    ----------
    pixels : ndarray of integers
        The image, with the samples of a pixel along `axis`. The last of 2 or 4
        samples is the opacity.
    samples : int
        The number of samples of a pixel.
    axis : int
        The axis of the samples.
    """
    lying = np.moveaxis(pixels, axis, -1)
    count = samples - (samples in (2, 4))
    colours, opacity = lying[..., :count], lying[..., count:]
    grey = bool((colours == colours[..., :1]).all())
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return grey and bool((opacity == opaque).all())


def _renamed(path: Path, axes: str, shape: list[int], word: str | None) -> str:
    """Return the letters of the axes, with those that the user gives them."""
    if word is None:
        return axes
    check_read_as(word)
    found = f"{path}: has axes {axes} of shape {tuple(shape)}"
    if word not in _MEANT:
        if len(word) != len(axes):
            raise AxisError(
                f"{found}, but `read_as` {word!r} names {len(word)}; give one letter "
                "for each axis"
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
            return axes  # the file states the same
        raise AxisError(
            f"{found}, so it has slices, and {_NAMES.get(long[0], long[0])} cannot be "
            "slices as well; choose one with `channel`"
        )
    if len(long) != 1:
        raise AxisError(
            f"{found}, and {len(long)} of them could be {word}; give `read_as` a "
            "letter for each axis, such as tzyx"
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
        raise AxisError(
            f"{path}: has one channel, so channel {channel} does not exist; leave out "
            "`channel`"
        )
    if not several:
        return dict.fromkeys(extra, 0)
    what = " and ".join(
        f"{lengths[letter]} {_NAMES.get(letter, f'entries along {letter}')}"
        for letter in several
    )
    found = f"{path}: holds {what} (axes {axes}, shape {tuple(lengths.values())})"
    if len(several) > 1:
        way = "write one to its own file"
        if lengths.get("Z", 1) == 1:  # one of the axes may be slices by mistake
            meant = axes.replace("Z", "").replace(several[0], "Z").lower()
            way = f"{way}, or say what the axes are with `read_as`, such as {meant}"
        raise AxisError(f"{found}; expected one volume: {way}")
    count = lengths[several[0]]
    if channel is None:
        # If Z has several slices, the other axis cannot be slices as well.
        slices = ", or say `read_as` slices if they are"
        if lengths.get("Z", 1) > 1:
            other = "zyxc" if len(axes) == 4 else "tzyxc"[-len(axes) :]
            slices = f", or say what the axes are with `read_as`, such as {other}"
        raise AxisError(
            f"{found}; expected one: choose it with `channel` (0..{count - 1}){slices}"
        )
    if not 0 <= channel < count:
        raise AxisError(
            f"{found}, so channel {channel} does not exist; choose one of "
            f"0..{count - 1} with `channel`"
        )
    return {**dict.fromkeys(extra, 0), several[0]: channel}


def chunk_note(axes: str, chunk: Sequence[int] | None) -> dict[str, Any]:
    """Return the entry ``"chunk"`` of a provenance: the shape (z, y, x) of a chunk.

    Parameters
    ----------
    axes : str
        One letter for each axis of the file.
    chunk : sequence of int or None
        The shape of a chunk along these axes; None if the file has no chunks.
    """
    if not chunk:
        return {}
    sides = dict(zip(axes, map(int, chunk), strict=True))
    return {"chunk": tuple(sides.get(letter, 1) for letter in "ZYX")}

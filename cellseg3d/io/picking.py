"""Decide what the axes of a file are, and choose one channel or time point."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import AxisError, ConfigError
from cellseg3d.io.layout import Request
from cellseg3d.io.lazy import placed

_NAMES = {"C": "channels", "S": "channels (colours)", "T": "time points"}
_MEANT = {"slices": "Z", "channels": "C", "times": "T"}
_LETTERS = frozenset("TCZYXS")
_RGB = ("red", "green", "blue")
# The key of the names of a file's channels, in its notes and in the provenance.
CHANNEL_NAMES = "channel_names"
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
    path: Path,
    axes: str,
    shape: Sequence[int],
    request: Request,
    names: Sequence[str] = (),
) -> tuple[str, dict[str, int]]:
    """Return the letters of a file's axes, and the index along those that are not read.

    Parameters
    ----------
    path : Path
        The file, for messages.
    axes : str
        One letter for each axis, as the file states or its format implies.
    shape : sequence of int
        The lengths of the axes.
    request : Request
        Its `read_as` renames an axis. Its `channel` is the index along the axis of
        channels (or, in a file without channels, along the one axis that is not Z, Y
        or X and is longer than 1), and its `time` that along T.
    names : sequence of str
        The names of the channels, if the file states them.

    Returns
    -------
    axes : str
        One letter for each axis; Z, Y and X are those of the volume. If all channels
        are read, their axis is C.
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
    return _Picking(path, settled, lengths, request, names).done()


def channel_names_in(notes: Mapping[str, Any]) -> list[str]:
    """Return the names of the channels that are kept in a file's notes."""
    names = notes.get(CHANNEL_NAMES)
    known = isinstance(names, list) and all(isinstance(each, str) for each in names)
    return list(names) if known and names else []


def colour_names(samples: int) -> list[str]:
    """Return the names of the samples of a pixel: grey or colours, and opacity."""
    known = {2: ["grey", "opacity"], 3: list(_RGB), 4: [*_RGB, "opacity"]}
    return known.get(samples, [])


def channel_number(
    wanted: int | str, count: int, names: Sequence[str], found: str
) -> int:
    """Return the number of a channel that is given by its number or name.

    Parameters
    ----------
    wanted : int or str
        A number counted from 0, or a name; upper and lower case are equal. A name that
        is a number is taken as one, unless a channel has that name.
    count : int
        How many channels there are.
    names : sequence of str
        Their names, if they are known.
    found : str
        What was found in the file, for messages.

    Raises
    ------
    AxisError
        If there is no such channel.
    """
    folded = [name.casefold() for name in names]
    if isinstance(wanted, str):
        same = [at for at, name in enumerate(folded) if name == wanted.casefold()]
        if len(same) == 1 and same[0] < count:
            return same[0]
        if not wanted.isdecimal():
            called = f", called {', '.join(names)}" if names else " without names"
            many = f"{len(same)} channels" if same else "no channel"
            raise AxisError(
                f"{found}{called}, so {many} of it can be meant by {wanted!r}; choose "
                f"one of 0..{count - 1} with `channel`"
            )
        wanted = int(wanted)
    if not 0 <= wanted < count:
        raise AxisError(
            f"{found}, so channel {wanted} does not exist; choose one of "
            f"0..{count - 1} with `channel`"
        )
    return wanted


def index_of_box(
    axes: str, picked: Mapping[str, int], box: tuple[slice, ...]
) -> tuple[tuple[int | slice, ...], str]:
    """Return the index of a box in a file's array, and the axes of what it gives.

    Parameters
    ----------
    axes : str
        One letter for each axis of the array.
    picked : mapping of str to int
        The index along each axis that the volume does not have.
    box : sequence of slice
        The voxels (z, y, x) or (c, z, y, x).

    Examples
    --------
    >>> index_of_box("YXC", {"C": 1}, (slice(0, 1), slice(2, 4), slice(5, 9)))
    ((slice(2, 4, None), slice(5, 9, None), 1), 'YX')
    """
    place: dict[str, int | slice] = {**placed(box)}
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


@dataclass(frozen=True)
class _Picking:
    """What `pick_axes` was asked for, and how it decides."""

    path: Path
    axes: str
    shape: Sequence[int]
    request: Request
    names: Sequence[str]

    @property
    def lengths(self) -> dict[str, int]:
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def found(self) -> str:
        """What the file holds beside slices, in words."""
        what = " and ".join(
            f"{self.lengths[letter]} {_NAMES.get(letter, f'entries along {letter}')}"
            for letter in self.several
        )
        shape = tuple(self.lengths.values())
        return f"{self.path}: holds {what} (axes {self.axes}, shape {shape})"

    @property
    def several(self) -> list[str]:
        """The axes beside Z, Y and X that are longer than 1."""
        return [
            each for each in self.axes if each not in "ZYX" and self.lengths[each] > 1
        ]

    def done(self) -> tuple[str, dict[str, int]]:
        """Return the letters of the axes, and the index along those not read."""
        picked = {letter: 0 for letter in self.axes if letter not in "ZYX"}
        left = self.several
        time = self.request.time
        if "T" in left and (time is not None):
            picked["T"] = self._time(time)
            left.remove("T")
        elif time:
            raise AxisError(
                f"{self.path}: has no time points, so time point {time} does not "
                "exist; leave out `time`"
            )
        if len(left) > 1:
            raise AxisError(self._too_many(left))
        if left and self.request.every_channel:
            return self._with_channels(left[0], picked)
        if left:
            picked[left[0]] = self._channel(left[0])
        elif self.request.channel not in (None, 0, "0") and not self._names_it():
            raise AxisError(
                f"{self.path}: has one channel, so channel {self.request.channel} does "
                "not exist; leave out `channel`"
            )
        return self.axes, picked

    def _names_it(self) -> bool:
        """Return whether the request names the only channel."""
        wanted = str(self.request.channel).casefold()
        return [name.casefold() for name in self.names] == [wanted]

    def _time(self, time: int) -> int:
        count = self.lengths["T"]
        if not 0 <= time < count:
            raise AxisError(
                f"{self.found}, so time point {time} does not exist; choose one of "
                f"0..{count - 1} with `time`"
            )
        return time

    def _channel(self, letter: str) -> int:
        channel, count = self.request.channel, self.lengths[letter]
        if channel is None:
            # If Z has several slices, the other axis cannot be slices as well.
            slices = ", or say `read_as` slices if they are"
            if self.lengths.get("Z", 1) > 1:
                length = len(self.axes)
                other = "zyxc" if length == 4 else "tzyxc"[-length:]
                named = f", or say what the axes are with `read_as`, such as {other}"
                # A folder of slices has no axes within an image to name.
                slices = named if {"Y", "X"} <= set(self.axes) else ""
            called = f", called {', '.join(self.names)}" if self.names else ""
            option = "`time`" if letter == "T" else "`channel`"
            raise AxisError(
                f"{self.found}{called}; expected one: choose it with {option} "
                f"(0..{count - 1}){slices}"
            )
        names = () if letter == "T" else self.names
        return channel_number(channel, count, names, self.found)

    def _with_channels(
        self, letter: str, picked: dict[str, int]
    ) -> tuple[str, dict[str, int]]:
        """Return the axes with that of the channels as C, which is not picked."""
        del picked[letter]
        axes = self.axes
        if letter != "C" and "C" in axes:
            axes = axes.replace("C", letter.lower())
            picked[letter] = picked.pop("C")
        return axes.replace(letter, "C").upper(), picked

    def _too_many(self, left: Sequence[str]) -> str:
        way = "write one to its own file"
        if "T" in left and len(left) == 2:
            way = f"choose a time point with `time` (0..{self.lengths['T'] - 1})"
        if self.lengths.get("Z", 1) == 1:  # one of the axes may be slices by mistake
            free = self.axes.replace("Z", "")
            meant = free.replace(left[0], "Z").lower()
            way = f"{way}, or say what the axes are with `read_as`, such as {meant}"
        return f"{self.found}; expected one volume: {way}"


def times_note(axes: str, shape: Sequence[int]) -> dict[str, Any]:
    """Return the entry ``"times"`` of a provenance: how many time points a file has.

    Parameters
    ----------
    axes : str
        One letter for each axis of the file, as `pick_axes` returns them.
    shape : sequence of int
        The lengths of these axes.
    """
    count = int(dict(zip(axes, shape, strict=True)).get("T", 1))
    return {"times": count} if count > 1 else {}


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

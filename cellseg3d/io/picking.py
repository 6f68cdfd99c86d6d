"""Pick one channel or time point where a file holds several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import AxisError

_NAMES = {"C": "channels", "S": "channels (colours)", "T": "time points"}


def pick_channel(
    path: Path, axes: str, shape: Sequence[int], channel: int | None
) -> dict[str, int]:
    """Return the index to take along each axis that is none of Z, Y and X.

    Parameters
    ----------
    path : Path
        The file, for messages.
    axes : str
        One letter an axis.
    shape : sequence of int
        Their lengths.
    channel : int or None
        The index wanted along the one such axis that is longer than 1.

    Raises
    ------
    AxisError
        If there is such an axis and no channel is named, if the named one does not
        exist, or if there are several such axes.
    """
    lengths = dict(zip(axes, map(int, shape), strict=True))
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
        raise AxisError(f"{found}; expected one volume, write one to its own file")
    count = lengths[several[0]]
    if channel is None:
        raise AxisError(f"{found}; expected one, pick it with --channel 0..{count - 1}")
    if not 0 <= channel < count:
        raise AxisError(f"{found}; channel {channel} is none of 0..{count - 1}")
    return {**dict.fromkeys(extra, 0), several[0]: channel}


def chunk_note(axes: str, chunk: Sequence[int] | None) -> dict[str, Any]:
    """Return the provenance entry of a file's chunks: their shape (z, y, x)."""
    if not chunk:
        return {}
    sides = dict(zip(axes, map(int, chunk), strict=True))
    return {"chunk": tuple(sides.get(letter, 1) for letter in "ZYX")}

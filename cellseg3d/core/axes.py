"""Axis letters, and the conversion of arrays from one axis order to another."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import AxisError

Axis = Literal["z", "y", "x"]
AXES: tuple[Axis, Axis, Axis] = ("z", "y", "x")


def axis_index(axis: str) -> int:
    """Return the position of an axis letter in (z, y, x).

    Raises
    ------
    AxisError
        If `axis` is not one of ``"z"``, ``"y"``, ``"x"``.
    """
    if axis not in AXES:
        message = f"axis {axis!r}: expected one of 'z', 'y', 'x'"
        raise AxisError(message)
    return AXES.index(axis)


def order_of(source: str, target: str) -> tuple[int, ...]:
    """Return the transposition that turns axes `source` into `target`.

    Parameters
    ----------
    source, target : str
        The same letters in two orders, such as ``"XYZ"`` and ``"ZYX"``. Upper and
        lower case are equal.

    Returns
    -------
    tuple of int
        The order to pass to ``numpy.transpose``.

    Raises
    ------
    AxisError
        If the two strings do not hold the same letters, each of them once.
    """
    source, target = source.upper(), target.upper()
    if sorted(source) != sorted(target) or len(set(source)) != len(source):
        message = f"axes {source!r} cannot be put into the order {target!r}"
        raise AxisError(message)
    return tuple(source.index(letter) for letter in target)


def to_zyx(array: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return a view of an array in the order (z, y, x), or (c, z, y, x).

    Parameters
    ----------
    array : ndarray of any dtype, shape in the order of `axes`
        The array. A two-dimensional image becomes a volume with one slice.
    axes : str
        One of the letters ``Z``, ``Y``, ``X`` for each dimension, such as ``"XYZ"``,
        and ``C`` if there are channels.

    Returns
    -------
    ndarray, shape (Z, Y, X), or (C, Z, Y, X) if `axes` has channels

    Raises
    ------
    AxisError
        If `axes` does not name each dimension of `array` once.
    """
    axes = axes.upper()
    wanted = "CZYX" if "C" in axes else "ZYX"
    if len(axes) != array.ndim or not set(axes) <= set(wanted):
        message = f"axes {axes!r} do not fit an array of shape {array.shape}"
        raise AxisError(message)
    missing = "".join(letter for letter in wanted if letter not in axes)
    expanded = array[(np.newaxis,) * len(missing)]
    return expanded.transpose(order_of(missing + axes, wanted))

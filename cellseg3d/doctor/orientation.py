"""Guess whether a label is turned or mirrored against its image."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from cellseg3d.core.axes import AXES

# The images are compared at about this many voxels a side. More voxels take more time
# and do not make the guess more certain.
COARSE_SIDE = 64
# A turn is reported only if its correlation exceeds that of the label as it is by this
# much, and if the label as it is has less than half of that correlation. Correct pairs
# stay far from both limits.
MARGIN = 0.12


@dataclass(frozen=True)
class Turn:
    """How to turn a label: the order of its axes, and the axes to mirror.

    Parameters
    ----------
    order : tuple of int
        Order of the axes, as ``numpy.transpose`` takes it.
    flips : tuple of int
        Axes to mirror after the transposition.
    """

    order: tuple[int, int, int]
    flips: tuple[int, ...]

    def apply(self, label: NDArray[Any]) -> NDArray[Any]:
        """Return a turned view of the label, shape (Z, Y, X)."""
        return np.flip(label.transpose(self.order), self.flips)

    def __str__(self) -> str:
        """Return the turn in words."""
        parts = []
        if self.order != (0, 1, 2):
            parts.append(f"axes read as {''.join(AXES[i] for i in self.order)}")
        if self.flips:
            parts.append(f"mirrored along {', '.join(AXES[i] for i in self.flips)}")
        return " and ".join(parts)


def fitting_orders(
    image_shape: tuple[int, ...], label_shape: tuple[int, ...]
) -> list[tuple[int, int, int]]:
    """Return the orders of a label's axes in which it has its image's shape."""
    return [
        (a, b, c)
        for a, b, c in itertools.permutations(range(3))
        if (label_shape[a], label_shape[b], label_shape[c]) == tuple(image_shape)
    ]


def guess_turn(image: NDArray[Any], label: NDArray[Any]) -> Turn | None:
    """Return the turn that makes a label fit its image, if the label does not fit yet.

    Every order of axes and every mirroring that fits the shape is tried on coarse
    copies. The label's edges are correlated with the magnitude of the image's gradient.

    Parameters
    ----------
    image : ndarray of a real dtype, shape (Z, Y, X)
        Intensities; all must be finite.
    label : ndarray of integers, shape (Z, Y, X) or the same with axes swapped
        Label values.

    Returns
    -------
    Turn or None
        None when the label fits as it is, or when no turn fits clearly better.
    """
    steps = [max(1, size // COARSE_SIDE) for size in image.shape]
    gradient = _gradient(_coarse(image, steps))
    as_it_is = 0.0
    best: tuple[float, Turn | None] = (0.0, None)
    for turn in _turns(image.shape, label.shape):
        turned = turn.apply(label)[tuple(slice(s // 2, None, s) for s in steps)]
        turned = turned[tuple(map(slice, gradient.shape))]
        score = _correlation(gradient, _edges(turned))
        if not turn.flips and turn.order == (0, 1, 2):
            as_it_is = score
        elif score > best[0]:
            best = (score, turn)
    clear = best[0] - as_it_is > MARGIN and as_it_is < 0.5 * best[0]
    return best[1] if clear else None


def guess_shift(
    image: NDArray[Any], label: NDArray[Any]
) -> tuple[int, int, int] | None:
    """Return how far a label lies beside its image, if it fits clearly better moved.

    The label's edges are correlated with the magnitude of the image's gradient at every
    shift, on coarse copies.

    Parameters
    ----------
    image : ndarray of a real dtype, shape (Z, Y, X)
        Intensities; all must be finite.
    label : ndarray of integers, shape (Z, Y, X)
        Label values.

    Returns
    -------
    tuple of int or None
        The voxels (z, y, x) by which to move the label. None if it fits as it is, if
        no shift fits clearly better, or if the shapes differ.
    """
    if image.shape != label.shape:
        return None
    steps = [max(1, size // COARSE_SIDE) for size in image.shape]
    gradient = _gradient(_coarse(image, steps))
    moved = label[tuple(slice(s // 2, None, s) for s in steps)]
    edges = _edges(moved[tuple(map(slice, gradient.shape))])
    one, two = gradient - gradient.mean(), edges - edges.mean()
    norm = float(np.sqrt((one * one).sum() * (two * two).sum()))
    if not norm:
        return None
    # At twice the size nothing wraps around.
    shape = tuple(fft.next_fast_len(2 * side, real=True) for side in one.shape)
    spectrum = fft.rfftn(one, shape) * np.conj(fft.rfftn(two, shape))
    # Dark membranes beside labelled ones give strong negative correlations at small
    # shifts, so only positive ones count here.
    scores = fft.irfftn(spectrum, shape) / norm
    best = np.unravel_index(int(scores.argmax()), shape)
    highest, as_it_is = float(scores[best]), abs(float(scores[0, 0, 0]))
    if highest - as_it_is <= MARGIN or as_it_is >= 0.5 * highest:
        return None
    away = [
        int(place if place < side else place - whole)
        for place, side, whole in zip(best, one.shape, shape, strict=True)
    ]
    z, y, x = (number * step for number, step in zip(away, steps, strict=True))
    return z, y, x


def _turns(image: tuple[int, ...], label: tuple[int, ...]) -> Iterator[Turn]:
    axes = [axis for axis in range(3) if image[axis] > 1]
    for order in fitting_orders(image, label):
        for count in range(len(axes) + 1):
            for flips in itertools.combinations(axes, count):
                yield Turn(order, flips)


def _coarse(image: NDArray[Any], steps: list[int]) -> NDArray[np.float32]:
    """Return the means of blocks; an incomplete block at the end is left out."""
    sides = [size // step for size, step in zip(image.shape, steps, strict=True)]
    cut = image[tuple(slice(n * s) for n, s in zip(sides, steps, strict=True))]
    blocks = [each for pair in zip(sides, steps, strict=True) for each in pair]
    means: NDArray[np.float32]
    means = cut.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def _gradient(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the magnitude of the gradient, cut off at its 99th percentile."""
    magnitude = ndimage.gaussian_gradient_magnitude(image, 1.0)
    clipped: NDArray[np.float32] = np.minimum(magnitude, np.percentile(magnitude, 99))
    return clipped


def _edges(label: NDArray[Any]) -> NDArray[np.float32]:
    """Return 1 in the voxels on both sides of a border between values, else 0."""
    edges = np.zeros(label.shape, np.float32)
    for axis in range(3):
        rest = [slice(None)] * 3
        low, high = list(rest), list(rest)
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        border = label[tuple(low)] != label[tuple(high)]
        edges[tuple(low)][border] = 1
        edges[tuple(high)][border] = 1
    return edges


def _correlation(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """Return the absolute value of Pearson's r.

    A strong negative correlation counts too: along bright membranes the gradient is
    smallest where the label has its edges.
    """
    a, b = one - one.mean(), two - two.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return abs(float((a * b).sum())) / norm if norm else 0.0

"""Guess whether a label lies on its image turned or mirrored."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellseg3d.core.axes import AXES

# Voxels a side that are looked at; more adds time, not certainty.
COARSE_SIDE = 64
# A guess has to line up by so much more than the label as it is, in correlation,
# and the label as it is by less than half as much: real pairs stay far from both.
MARGIN = 0.12


@dataclass(frozen=True)
class Turn:
    """Axes of the label in the order in which they fit, and those to mirror.

    Parameters
    ----------
    order : tuple of int
        For ``numpy.transpose`` of the label.
    flips : tuple of int
        Axes to mirror after that.
    """

    order: tuple[int, int, int]
    flips: tuple[int, ...]

    def apply(self, label: NDArray[Any]) -> NDArray[Any]:
        """Return a view of the label, turned; shape (Z, Y, X)."""
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
    """Return the turn in which label edges lie on image edges, if it is not none.

    The magnitude of the image's gradient is correlated with the edges of the label
    in every order and mirroring that fits the shape, on a coarse copy of both.

    Parameters
    ----------
    image : ndarray of a real dtype, shape (Z, Y, X)
        Finite.
    label : ndarray of integers, shape (Z, Y, X) or one with turned axes

    Returns
    -------
    Turn or None
        None when the label fits as it is, or nothing fits clearly better.
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


def _turns(image: tuple[int, ...], label: tuple[int, ...]) -> Iterator[Turn]:
    axes = [axis for axis in range(3) if image[axis] > 1]
    for order in fitting_orders(image, label):
        for count in range(len(axes) + 1):
            for flips in itertools.combinations(axes, count):
                yield Turn(order, flips)


def _coarse(image: NDArray[Any], steps: list[int]) -> NDArray[np.float32]:
    """Return the means of blocks; what is left over at the end is cut off."""
    sides = [size // step for size, step in zip(image.shape, steps, strict=True)]
    cut = image[tuple(slice(n * s) for n, s in zip(sides, steps, strict=True))]
    blocks = [each for pair in zip(sides, steps, strict=True) for each in pair]
    means: NDArray[np.float32]
    means = cut.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def _gradient(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the gradient's magnitude; the strongest percent counts alike."""
    magnitude = ndimage.gaussian_gradient_magnitude(image, 1.0)
    clipped: NDArray[np.float32] = np.minimum(magnitude, np.percentile(magnitude, 99))
    return clipped


def _edges(label: NDArray[Any]) -> NDArray[np.float32]:
    """Return 1 on both sides of every border between values."""
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
    """Return the size of Pearson's r; bright membranes have no gradient on edges."""
    a, b = one - one.mean(), two - two.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return abs(float((a * b).sum())) / norm if norm else 0.0

"""Add up probabilities while a volume is predicted, to expect a Dice from them.

Only voxels on a coarse lattice are counted, so that this takes next to no time. Which
ones does not depend on chunks, so an interrupted prediction gives the same sums.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cellseg3d.core.roi import Roi, Zyx, zyx

# The most voxels of a volume that are counted.
COUNTED = 2**18


@dataclass(frozen=True)
class Tally:
    """Which voxels of a volume are counted.

    Parameters
    ----------
    step : tuple of int
        Along each axis (z, y, x), one voxel in this many is counted, from the first.
    """

    step: Zyx = (1, 1, 1)

    @classmethod
    def of(cls, shape: Sequence[int], most: int = COUNTED) -> "Tally":
        """Return the finest lattice that counts at most about `most` voxels.

        Examples
        --------
        >>> Tally.of((256, 256, 256)).step
        (4, 4, 4)
        >>> Tally.of((1, 4096, 4096)).step
        (1, 8, 8)
        """
        step = 1
        while math.prod(math.ceil(length / step) for length in shape) > most:
            step += 1
        return cls(zyx([min(step, length) for length in shape]))

    def places(self, roi: Roi) -> tuple[slice, slice, slice]:
        """Return the counted voxels of a region, as slices from its first voxel."""
        z, y, x = (
            slice(-start % step, None, step)
            for start, step in zip(roi.start, self.step, strict=True)
        )
        return z, y, x


def sums_of(probs_kzyx: Tensor) -> NDArray[np.float64]:
    """Return the sums over some voxels that `metrics.expected_dice.soft_dice` takes.

    Parameters
    ----------
    probs_kzyx : tensor of float32, shape (K, z, y, x)
        Class probabilities in [0, 1].

    Returns
    -------
    ndarray of float64, shape (3, K)
        For each class the voxels that it is likeliest in, the sum of its
        probabilities, and their sum over these voxels.
    """
    probs = probs_kzyx.reshape(len(probs_kzyx), -1).cpu().numpy()
    best = probs.argmax(0)
    own = np.take_along_axis(probs, best[None], 0)[0]
    return np.stack(
        [
            np.bincount(best, minlength=len(probs)).astype(np.float64),
            probs.sum(1, dtype=np.float64),
            np.bincount(best, own, len(probs)),
        ]
    )

"""Draw the voxels that training samples are centred on, balanced by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.roi import Zyx

# Number of label voxels compared at a time while an index is built. It limits memory.
_SLAB_VOXELS = 1 << 24


@dataclass(frozen=True)
class VoxelRuns:
    """The voxels of one class in one volume, stored as runs of adjacent voxels.

    Parameters
    ----------
    starts : ndarray of int64, shape (R,)
        Flat index (C order) of the first voxel of each run.
    ends : ndarray of int64, shape (R,)
        Number of voxels in all runs up to and including this one.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def count(self) -> int:
        """The number of voxels."""
        return int(self.ends[-1])

    def pick(self, number: int) -> int:
        """Return the flat index of voxel `number`, counted from 0 in C order."""
        run = int(np.searchsorted(self.ends, number, side="right"))
        before = int(self.ends[run - 1]) if run else 0
        return int(self.starts[run]) + number - before


def class_runs(label_zyx: NDArray[np.uint8]) -> dict[int, VoxelRuns]:
    """Return the voxels of each class; voxels that are not annotated are left out.

    Parameters
    ----------
    label_zyx : ndarray of uint8, shape (Z, Y, X)
        Class indices, 255 where not annotated. The array may be memory-mapped: a few
        slices are read at a time.

    Returns
    -------
    dict of int to VoxelRuns
        The voxels of each class that occurs.
    """
    starts: dict[int, list[NDArray[np.int64]]] = {}
    lengths: dict[int, list[NDArray[np.int64]]] = {}
    depth = max(1, _SLAB_VOXELS // max(1, label_zyx[0].size))
    for z in range(0, label_zyx.shape[0], depth):
        flat = np.ascontiguousarray(label_zyx[z : z + depth]).ravel()
        borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        begin = np.concatenate([[0], borders]).astype(np.int64)
        length = np.diff(np.append(begin, flat.size))
        values = flat[begin]
        for value in np.unique(values).tolist():
            chosen = values == value
            offset = z * label_zyx[0].size
            starts.setdefault(value, []).append(begin[chosen] + offset)
            lengths.setdefault(value, []).append(length[chosen])
    return {
        value: VoxelRuns(
            np.concatenate(starts[value]), np.cumsum(np.concatenate(lengths[value]))
        )
        for value in sorted(starts)
        if value != IGNORE
    }


class SiteSampler:
    """Draw random annotated voxels from several volumes.

    With probability `foreground` a class is drawn first, among the foreground classes
    that occur, and then one of its voxels. Otherwise any annotated voxel is drawn. An
    index of the voxels is built once, so a draw takes the same time in any volume.

    Parameters
    ----------
    labels : sequence of ndarray of uint8, shape (Z, Y, X)
        The label of each volume; voxels of 255 are never drawn.
    foreground : float
        Probability of a voxel of a foreground class, in [0, 1].
    class_weights : mapping of int to float, optional
        How often each foreground class is drawn relative to the others; 1 unless named.

    Raises
    ------
    ConfigError
        If `foreground` is not a probability or a weight is negative.
    LabelError
        If no voxel of any volume is annotated.
    """

    def __init__(
        self,
        labels: Sequence[NDArray[np.uint8]],
        foreground: float = 0.5,
        class_weights: Mapping[int, float] | None = None,
    ) -> None:
        if not 0 <= foreground <= 1:
            message = f"foreground is {foreground}; expected a probability, 0 to 1"
            raise ConfigError(message)
        self.foreground = foreground
        self._shapes: list[Zyx] = [_shape(label) for label in labels]
        self._runs: dict[int, list[tuple[int, VoxelRuns]]] = {}
        for volume, label in enumerate(labels):
            for value, runs in class_runs(label).items():
                self._runs.setdefault(value, []).append((volume, runs))
        if not self._runs:
            message = (
                f"no voxel of the {len(labels)} labels is annotated (all are 255); "
                "annotate some"
            )
            raise LabelError(message)
        self._ends = {
            value: np.cumsum([runs.count for _, runs in parts])
            for value, parts in self._runs.items()
        }
        self._classes = sorted(self._runs)
        self._annotated = np.cumsum([self._ends[c][-1] for c in self._classes])
        self._present = [value for value in self._classes if value > 0]
        # In a JSON config the keys are strings.
        given = {int(c): float(w) for c, w in (class_weights or {}).items()}
        weights = [given.get(c, 1.0) for c in self._present]
        if min(weights, default=1.0) < 0:
            raise ConfigError(f"class_weights is {weights}; expected 0 or more")
        self._weights = np.cumsum(weights)

    @property
    def counts(self) -> dict[int, int]:
        """The number of annotated voxels of each class in all volumes together."""
        return {value: int(self._ends[value][-1]) for value in self._classes}

    def draw(self, random: np.random.Generator) -> tuple[int, Zyx]:
        """Return the index of a volume and an annotated voxel (z, y, x) of it."""
        balanced = random.random() < self.foreground
        if balanced and self._present and self._weights[-1] > 0:
            mark = random.random() * self._weights[-1]
            value = self._present[int(np.searchsorted(self._weights, mark, "right"))]
            number = int(random.integers(self._ends[value][-1]))
            return self._site(value, number)
        number = int(random.integers(self._annotated[-1]))
        which = int(np.searchsorted(self._annotated, number, side="right"))
        before = int(self._annotated[which - 1]) if which else 0
        return self._site(self._classes[which], number - before)

    def _site(self, value: int, number: int) -> tuple[int, Zyx]:
        ends = self._ends[value]
        part = int(np.searchsorted(ends, number, side="right"))
        volume, runs = self._runs[value][part]
        flat = runs.pick(number - (int(ends[part - 1]) if part else 0))
        _, height, width = self._shapes[volume]
        z, rest = divmod(flat, height * width)
        y, x = divmod(rest, width)
        return volume, (z, y, x)


def sample_random(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return a random generator for one sample, determined by these three numbers.

    Philox [1]_ is a counter-based generator: generators with different keys or counters
    do not overlap, so a sample does not depend on the samples that were drawn before.

    References
    ----------
    .. [1] Salmon et al. 2011, SC'11, doi:10.1145/2063384.2063405
    """
    philox = np.random.Philox(
        key=np.array([seed % 2**64, epoch], np.uint64),
        counter=np.array([0, 0, 0, index], np.uint64),
    )
    return np.random.Generator(philox)


def _shape(label: NDArray[np.uint8]) -> Zyx:
    z, y, x = label.shape
    return (z, y, x)

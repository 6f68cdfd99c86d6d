"""Distances between the surfaces of two objects, in um.

Definitions differ between programs; these hold here:

- The surface of a mask is the set of its voxels with a face neighbour outside the mask.
  The border of the volume counts as outside, except along an axis of one voxel: a 2D
  image has an outline, but no top and bottom. A neighbour that is not annotated does
  not count as outside.
- A distance runs from the centre of a surface voxel to the nearest voxel centre of the
  other surface, in um.
- Hausdorff (HD) and HD95 are the larger of the two directed values: HD95 is the larger
  of the two 95th percentiles, not the percentile of both sets pooled.
- ASSD is the mean over both surfaces pooled; MASD is the mean of both directed means.
- NSD is the share of both surfaces that lies within a tolerance of the other.
- If neither mask has voxels, scores are NaN. If only one has, distances are infinite
  and NSD is 0.

Sources: Taha and Hanbury 2015, doi:10.1186/s12880-015-0068-x; NSD: Nikolov et al.
2021, doi:10.2196/26151; rules: Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cellseg3d.core.errors import SpacingError
from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.contingency import check_shapes

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """The distance of each surface voxel from the other surface.

    Parameters
    ----------
    from_prediction, from_truth : ndarray of float64, shape (n,), (m,)
        Distances in um; infinite when the other mask is empty.
    """

    from_prediction: Floats
    from_truth: Floats

    @property
    def undefined(self) -> bool:
        """Whether neither mask has a surface."""
        return not len(self.from_prediction) and not len(self.from_truth)

    @property
    def hausdorff(self) -> float:
        """The largest distance, in um."""
        return self.percentile(100.0)

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95th percentiles, in um."""
        return self.percentile(95.0)

    @property
    def assd(self) -> float:
        """The mean distance over both surfaces pooled, in um."""
        return float(self._pooled.mean()) if not self.undefined else float("nan")

    @property
    def masd(self) -> float:
        """The mean of the two directed mean distances, in um."""
        means = [float(each.mean()) for each in self._present]
        return sum(means) / len(means) if means else float("nan")

    def nsd(self, tolerance_um: float) -> float:
        """Return the share of both surfaces within `tolerance_um` of the other."""
        if self.undefined:
            return float("nan")
        # The factor lets a distance of exactly the tolerance count despite rounding.
        return float((self._pooled <= tolerance_um * (1 + 1e-9)).mean())

    def percentile(self, percent: float) -> float:
        """Return the larger of the two directed percentiles, in um."""
        if self.undefined:
            return float("nan")
        return max(_percentile(each, percent) for each in self._present)

    def scores(self, tolerance_um: float) -> dict[str, float]:
        """Return every distance in um, and NSD at a tolerance, by name."""
        return {
            "hausdorff_um": self.hausdorff,
            "hd95_um": self.hd95,
            "assd_um": self.assd,
            "masd_um": self.masd,
            "nsd": self.nsd(tolerance_um),
        }

    @property
    def _pooled(self) -> Floats:
        return np.concatenate([self.from_prediction, self.from_truth])

    @property
    def _present(self) -> list[Floats]:
        return [each for each in (self.from_prediction, self.from_truth) if len(each)]


def surface_distances(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    spacing: Spacing | None,
    annotated: Mask | None = None,
) -> SurfaceDistances:
    """Return the distances between the surfaces of two masks.

    Parameters
    ----------
    prediction, truth : ndarray of bool or integers, shape (Z, Y, X)
        Masks; every value above 0 is inside.
    spacing : Spacing
        Edge lengths of a voxel in um.
    annotated : ndarray of bool, shape (Z, Y, X), optional
        Voxels to consider; all when None.

    Raises
    ------
    SpacingError
        If the spacing is unknown.
    LabelError
        If the shapes differ.
    """
    if spacing is None:
        message = "surface distances need a spacing; give `spacing_um`"
        raise SpacingError(message)
    check_shapes(prediction.shape, truth.shape)
    sets = [
        surface_voxels(mask > 0, annotated) * np.asarray(spacing.zyx)
        for mask in (prediction, truth)
    ]
    return SurfaceDistances(_nearest(sets[0], sets[1]), _nearest(sets[1], sets[0]))


def surface_voxels(mask: Mask, annotated: Mask | None = None) -> NDArray[np.int64]:
    """Return the indices (z, y, x) of the surface voxels of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (Z, Y, X)
    annotated : ndarray of bool, shape (Z, Y, X), optional
        Voxels outside it count neither as surface nor as outside.

    Returns
    -------
    ndarray of int64, shape (n, 3)
    """
    inside = mask if annotated is None else mask & annotated
    box = _bounding_box(inside)
    if box is None:
        return np.zeros((0, 3), np.int64)
    cut = inside[box]
    solid = _with_rim(inside if annotated is None else inside | ~annotated, box)
    enclosed = np.ones(cut.shape, bool)
    for axis, length in enumerate(mask.shape):
        if length == 1:
            continue
        for start in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(start, start + cut.shape[axis])
            enclosed &= solid[tuple(window)]
    origin = [side.start for side in box]
    found: NDArray[np.int64] = np.argwhere(cut & ~enclosed) + np.array(origin)
    return found


def _with_rim(solid: Mask, box: tuple[slice, ...]) -> Mask:
    """Return a box of `solid` with one more voxel per side, False off the volume."""
    pads, grown = [], []
    for side, length in zip(box, solid.shape, strict=True):
        low, high = max(0, side.start - 1), min(length, side.stop + 1)
        grown.append(slice(low, high))
        pads.append((1 - (side.start - low), 1 - (high - side.stop)))
    return np.pad(solid[tuple(grown)], pads)


def _bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(mask.any(axis=others))
        if not len(found):
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def _nearest(points: Floats, others: Floats) -> Floats:
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    # An unbalanced tree builds faster on lattice points and gives the same answer.
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(points)
    return np.asarray(distances, np.float64)


def _percentile(distances: Floats, percent: float) -> float:
    if np.isinf(distances[0]):
        return float("inf")
    return float(np.percentile(distances, percent))

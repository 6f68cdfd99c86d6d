"""The surface area in each of the 256 ways to fill a cell of 2 x 2 x 2 voxels.

The surface area of an object is the sum over its cells. A cell has 8 corners that lie
inside or outside; corner ``4 dz + 2 dy + dx`` is one bit of the number of the cell's
configuration. Two areas are available:

- *mesh*: the area of the triangles that marching cubes lays through the midpoints
  between inside and outside voxels [1]_. Other programs call it the mesh surface. It
  overestimates a smooth surface by about 8 %, because the triangles follow the steps
  between voxels.
- *crofton*: an estimate from how often lines in 13 directions cross the surface [2]_.
  It is right on average for a smooth surface, so sphericity is computed from it.

References
----------
.. [1] Lorensen and Cline 1987, doi:10.1145/37402.37422
.. [2] Lehmann and Legland 2012, doi:10.54294/gpmrdy
"""

import itertools
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import SphericalVoronoi

from cellseg3d.core.spacing import Spacing

Floats = NDArray[np.float64]
CORNERS = tuple(itertools.product((0, 1), repeat=3))
WAYS = 256
Edge = frozenset[int]


@lru_cache(maxsize=8)
def mesh_areas(spacing: Spacing) -> Floats:
    """Return the mesh area of each configuration of a cell, in um^2, shape (256,)."""
    edges = np.asarray(spacing.zyx)
    areas = np.array(
        [
            sum(_polygon_area(points * edges) for points in _polygons(way))
            for way in range(WAYS)
        ]
    )
    areas.setflags(write=False)
    return areas


@lru_cache(maxsize=8)
def crofton_areas(spacing: Spacing) -> Floats:
    """Return the Crofton area of each configuration, in um^2, shape (256,)."""
    areas = np.zeros(WAYS)
    inside = (np.arange(WAYS)[:, None] >> np.arange(8)) & 1
    for step, weight in direction_weights(spacing).items():
        length = float(np.linalg.norm(np.multiply(step, spacing.zyx)))
        # Two neighbours along an axis share four cells; along a face diagonal, two.
        shared = 2 ** (3 - sum(map(abs, step)))
        for one, two in _pairs_along(step):
            crossed = inside[:, one] != inside[:, two]
            areas += crossed * (2 * weight * spacing.voxel_volume_um3 / length / shared)
    areas.setflags(write=False)
    return areas


def direction_weights(spacing: Spacing) -> dict[tuple[int, int, int], float]:
    """Return the share of all directions that each of 13 lattice directions represents.

    Returns
    -------
    dict
        Share of each step (dz, dy, dx); the shares add up to 1.
    """
    offsets = (-1, 0, 1)
    steps = [s for s in itertools.product(offsets, offsets, offsets) if any(s)]
    vectors = np.multiply(steps, spacing.zyx)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    shares = SphericalVoronoi(vectors).calculate_areas() / (4 * np.pi)
    return {
        step: 2 * float(share)
        for step, share in zip(steps, shares, strict=True)
        if step > (0, 0, 0)
    }


def _pairs_along(step: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
    """Yield the corner pairs of a cell that are one step apart."""
    for number, corner in enumerate(CORNERS):
        other = tuple(a + b for a, b in zip(corner, step, strict=True))
        if other in CORNERS:
            yield number, CORNERS.index(other)


def _polygons(way: int) -> Iterator[Floats]:
    """Yield the surface polygons of a configuration, in voxels, shape (n, 3)."""
    links: dict[Edge, list[Edge]] = {}
    for one, two in _links(way):
        links.setdefault(one, []).append(two)
        links.setdefault(two, []).append(one)
    while links:
        start = here = next(iter(links))
        loop = []
        while here in links:
            loop.append(here)
            following = links.pop(here)
            here = next((edge for edge in following if edge in links), start)
        yield np.array([np.mean([CORNERS[c] for c in edge], axis=0) for edge in loop])


def _links(way: int) -> Iterator[tuple[Edge, Edge]]:
    """Yield the pairs of crossed edges that the surface joins on each face.

    Two inside corners at opposite ends of a face's diagonal stay connected. The rule
    uses the face alone, so neighbouring cells agree and the surface is closed.
    """
    for axis, side in itertools.product(range(3), (0, 1)):
        face = _face(axis, side)
        filled = [bool(way >> corner & 1) for corner in face]
        around = [frozenset((face[i], face[(i + 1) % 4])) for i in range(4)]
        crossed = [i for i in range(4) if filled[i] != filled[(i + 1) % 4]]
        if len(crossed) == 2:
            yield around[crossed[0]], around[crossed[1]]
        elif len(crossed) == 4:
            for i in (i for i in range(4) if not filled[i]):
                yield around[i - 1], around[i]


def _face(axis: int, side: int) -> list[int]:
    """Return the four corners of a face of the cell in the order around the face."""
    numbers = []
    for a, b in ((0, 0), (0, 1), (1, 1), (1, 0)):
        corner = [a, b]
        corner.insert(axis, side)
        numbers.append(CORNERS.index(tuple(corner)))
    return numbers


def _polygon_area(points: Floats) -> float:
    """Return the area of the triangles between a polygon's edges and its middle."""
    arms = points - points.mean(axis=0)
    return float(
        np.linalg.norm(np.cross(arms, np.roll(arms, -1, axis=0)), axis=1).sum() / 2
    )

"""Project a volume along parallel rays, and project it back.

The tilt axis is y. Every slice across y is projected by itself, so one matrix serves
all slices, and several slices are one matrix product.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cellseg3d.simulate.fields import FloatArray

# Angles per matrix and slices per product. Both keep the working set near the caches,
# and the matrices below about 100 MB for 400 x 400 pixels.
ANGLES = 8
SLICES = 64

Given = TypeVar("Given")
Made = TypeVar("Made")


def project(
    volume_zyx: FloatArray, angles_deg: NDArray[np.float64], workers: int | None = None
) -> FloatArray:
    """Return line integrals through a volume, in voxel edges times its unit.

    A detector pixel sees the exact mean over its width of the integrals through
    square voxels (strip integrals).

    Parameters
    ----------
    volume_zyx : ndarray of float32, shape (Z, Y, X)
    angles_deg : ndarray of float64, shape (angles,)
        Tilts about y, degrees; at 0 the beam runs along z.
    workers : int, optional
        Number of threads, one per core when None; it does not change the result.

    Returns
    -------
    ndarray of float32, shape (angles, X, Y)
        Detector pixels are one voxel edge wide; the middle of the volume projects onto
        the middle of the detector.
    """
    depth, height, width = volume_zyx.shape
    parts = _parts(height)
    blocks = _each(lambda part: _as_columns(volume_zyx[:, part, :]), parts, workers)
    result = np.empty((len(angles_deg), width, height), np.float32)
    for group in _groups(len(angles_deg)):
        matrix = _strips(depth, width, np.deg2rad(angles_deg[group]))

        def shine(
            index: int,
            matrix: sparse.csc_matrix = matrix,
            group: slice = group,
        ) -> None:
            rays = matrix @ blocks[index]
            result[group, :, parts[index]] = rays.reshape(-1, width, rays.shape[1])

        _each(shine, range(len(parts)), workers)
    return result


def backproject(
    rays: FloatArray,
    angles_deg: NDArray[np.float64],
    depth: int,
    workers: int | None = None,
) -> FloatArray:
    """Return the back-projection: the sum over all tilts of the rays through a voxel.

    Parameters
    ----------
    rays : ndarray of float32, shape (angles, X, Y)
    angles_deg : ndarray of float64, shape (angles,)
        Tilts about y, degrees.
    depth : int
        Number of voxels along z of the result.
    workers : int, optional
        Number of threads; one per core when None.

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)
        Values are interpolated linearly between pixels; 0 off the detector.
    """
    _, width, height = rays.shape
    parts = _parts(height)
    sums = [
        np.zeros((depth * width, part.stop - part.start), np.float32) for part in parts
    ]
    for group in _groups(len(angles_deg)):
        matrix = _smears(depth, width, np.deg2rad(angles_deg[group]))

        def smear(
            index: int,
            matrix: sparse.csr_matrix = matrix,
            group: slice = group,
        ) -> None:
            columns = np.ascontiguousarray(rays[group, :, parts[index]])
            sums[index] += matrix @ columns.reshape(-1, columns.shape[-1])

        _each(smear, range(len(parts)), workers)
    volume = np.empty((depth, height, width), np.float32)
    for part, columns in zip(parts, sums, strict=True):
        volume[:, part, :] = columns.reshape(depth, width, -1).transpose(0, 2, 1)
    return volume


def _strips(depth: int, width: int, angles: NDArray[np.float64]) -> sparse.csc_matrix:
    """Return the share of each voxel that each detector pixel sees, tilt after tilt.

    A square voxel casts a trapezoid; a pixel's share is a difference of its integral.
    """
    middles = _middles(depth, width, angles)
    cos, sin = np.abs(np.cos(angles)), np.abs(np.sin(angles))
    half_base = (cos + sin)[:, None] / 2
    half_top = np.abs(cos - sin)[:, None] / 2
    first = np.floor(middles - half_base)
    cuts = [
        _trapezoid_integral(first + k - middles, half_base, half_top) for k in (1, 2)
    ]
    shares = np.stack([cuts[0], cuts[1] - cuts[0], 1 - cuts[1]], axis=-1)
    pixels = _neighbours(first, 3)
    data, rows = _inside(shares, pixels, width)
    columns = depth * width
    starts = np.arange(0, data.size + 1, data.size // columns, dtype=np.int32)
    return sparse.csc_matrix((data, rows, starts), shape=(len(angles) * width, columns))


def _smears(depth: int, width: int, angles: NDArray[np.float64]) -> sparse.csr_matrix:
    """Return the weight of each detector pixel in each voxel, tilt beside tilt."""
    places = _middles(depth, width, angles) - 0.5
    first = np.floor(places)
    right = places - first
    shares = np.stack([1 - right, right], axis=-1)
    pixels = _neighbours(first, 2)
    data, columns = _inside(shares, pixels, width)
    rows = depth * width
    starts = np.arange(0, data.size + 1, data.size // rows, dtype=np.int32)
    return sparse.csr_matrix((data, columns, starts), shape=(rows, len(angles) * width))


def _middles(
    depth: int, width: int, angles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return where voxel centres project, in pixels from the detector's left edge."""
    z = np.arange(depth) - (depth - 1) / 2
    x = np.arange(width) - (width - 1) / 2
    shift = np.sin(angles)[:, None, None] * z[None, :, None]
    places = np.cos(angles)[:, None, None] * x[None, None, :] + shift
    middles: NDArray[np.float64] = (places + width / 2).reshape(len(angles), -1)
    return middles


def _trapezoid_integral(
    at: NDArray[np.float64],
    half_base: NDArray[np.float64],
    half_top: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the area left of `at` under a trapezoid of area 1 centred on 0."""
    height = 1 / (half_base + half_top)
    slope = np.maximum(half_base - half_top, 1e-12)
    out = np.minimum(np.abs(at), half_base)
    flat = np.minimum(out, half_top)
    ramp = out - flat
    area = height * (flat + ramp - ramp * ramp / (2 * slope))
    integral: NDArray[np.float64] = 0.5 + np.sign(at) * area
    return integral


def _neighbours(first: NDArray[np.float64], count: int) -> NDArray[np.int32]:
    """Return the pixel `first` and those right of it, along a new last axis."""
    start = first.astype(np.int32)
    return np.stack([start + np.int32(k) for k in range(count)], axis=-1)


def _inside(
    shares: NDArray[np.float64], pixels: NDArray[np.int32], width: int
) -> tuple[FloatArray, NDArray[np.int32]]:
    """Return weights and indices voxel by voxel; pixels off the detector weigh 0."""
    off = (pixels < 0) | (pixels >= width)
    weights = np.where(off, 0, shares).astype(np.float32)
    offset = (np.arange(len(pixels), dtype=np.int32) * width)[:, None, None]
    indices = np.clip(pixels, 0, width - 1) + offset
    return (
        np.ascontiguousarray(weights.transpose(1, 0, 2)).ravel(),
        np.ascontiguousarray(indices.transpose(1, 0, 2)).ravel(),
    )


def _as_columns(part_zyx: FloatArray) -> FloatArray:
    """Return slices as (Z * X, Y), with one column per slice."""
    depth, height, width = part_zyx.shape
    turned = np.ascontiguousarray(part_zyx.transpose(0, 2, 1))
    return turned.reshape(depth * width, height)


def _parts(height: int) -> list[slice]:
    return [slice(y, min(y + SLICES, height)) for y in range(0, height, SLICES)]


def _groups(angles: int) -> Iterator[slice]:
    return (slice(a, min(a + ANGLES, angles)) for a in range(0, angles, ANGLES))


def _each(
    task: Callable[[Given], Made], items: Sequence[Given], workers: int | None
) -> list[Made]:
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(task, items))

"""Measure size, shape and position of each object in physical units.

Every measure follows from sums over the voxels of an object, taken in one pass. The
equivalent ellipsoid has the same second moments as the object: its axes are
``2 sqrt(5 v)`` long, where v are the eigenvalues of the covariance of the object's
points. Each voxel counts with its extent, so an object of one voxel has axes too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.errors import LabelError
from cellseg3d.core.spacing import Spacing
from cellseg3d.metrics.object_sums import Floats, ObjectSums, sum_objects

Table = dict[str, NDArray[Any]]


def measure_objects(
    labels: ArrayLike,
    spacing: Spacing | None = None,
    image: ArrayLike | None = None,
) -> Table:
    """Measure every object of a volume of object ids.

    Parameters
    ----------
    labels : array or lazy array of integers, shape (Z, Y, X)
        Object ids; 0 is background.
    spacing : Spacing, optional
        Edge lengths of a voxel in um. When None, every length in um is NaN, and shapes
        are measured as if voxels were cubes.
    image : array or lazy array, shape (Z, Y, X), optional
        Intensities, such as LAC in 1/um.

    Returns
    -------
    dict of ndarray, each of shape (n,)
        One row per object, sorted by id. Columns: ``id``; ``voxels``, ``volume_um3``;
        ``surface_area_um2`` of the marching-cubes mesh, ``surface_area_crofton_um2``;
        ``sphericity`` from the Crofton area (1 for a ball), ``elongation`` (longest
        axis divided by shortest; 1 for a ball); ``axis1_um`` to ``axis3_um``, longest
        first, and their directions ``axis1_z`` ... ``axis3_x``; ``z0`` ... ``x1``, the
        half-open bounding box in voxels; ``centroid_z_um`` ..., measured from the
        centre of the first voxel; ``touches_border``; ``border_distance_um`` from the
        bounding box to the border of the volume; ``mean_intensity``, ``sd_intensity``.

    Raises
    ------
    LabelError
        If labels are not integers >= 0, or the image has another shape.
    """
    if image is not None and tuple(image.shape) != tuple(labels.shape):
        message = f"image {tuple(image.shape)} does not fit labels {labels.shape}"
        raise LabelError(message)
    sums = sum_objects(labels, spacing, image)
    edges = spacing or Spacing(1, 1, 1)
    table: Table = {"id": sums.ids, "voxels": sums.voxels}
    table |= _sizes(sums, edges)
    table |= _axes(sums, edges)
    table |= _places(sums, edges, labels.shape)
    if spacing is None:
        unknown = np.full(len(sums.ids), np.nan)
        table |= {
            name: unknown for name in table if name.endswith(("_um", "_um2", "_um3"))
        }
    if image is not None:
        table["mean_intensity"] = sums.intensity[:, 0]
        table["sd_intensity"] = np.sqrt(sums.intensity[:, 1] / sums.voxels)
    return table


def summarise_objects(table: Table, by: str) -> list[dict[str, Any]]:
    """Return statistics of the objects that share a value in one column.

    Parameters
    ----------
    table : dict of ndarray
        A table from `measure_objects` that also has the column `by`, such as
        ``"class"`` or ``"parent"``.
    by : str
        Name of the column to group by.

    Returns
    -------
    list of dict
        For each value: ``n``, ``n_touching_border``, ``total_volume_um3``; and mean,
        standard deviation (NaN for n < 2) and median of volume, surface area,
        sphericity, elongation and intensity.
    """
    values, group = np.unique(table[by], return_inverse=True)
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(len(values) + 1))
    return [
        {by: value, **_summary(table, order[low:high])}
        for value, low, high in zip(values.tolist(), bounds, bounds[1:], strict=False)
    ]


SUMMARISED = (
    "voxels",
    "volume_um3",
    "surface_area_um2",
    "sphericity",
    "elongation",
    "mean_intensity",
)


def _summary(table: Mapping[str, NDArray[Any]], rows: NDArray[Any]) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "n": len(rows),
        "n_touching_border": int(table["touches_border"][rows].sum()),
        "total_volume_um3": float(table["volume_um3"][rows].sum()),
    }
    for name in (name for name in SUMMARISED if name in table):
        values = table[name][rows].astype(np.float64)
        sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        summary |= {
            f"{name}_mean": float(values.mean()),
            f"{name}_sd": sd,
            f"{name}_median": float(np.median(values)),
        }
    return summary


def _sizes(sums: ObjectSums, spacing: Spacing) -> Table:
    volume = sums.voxels * float(spacing.voxel_volume_um3)
    mesh, crofton = sums.areas.T
    ball = np.cbrt(36 * np.pi * volume**2)
    return {
        "volume_um3": volume,
        "surface_area_um2": mesh,
        "surface_area_crofton_um2": crofton,
        # For an object of few voxels the estimate can exceed 1.
        "sphericity": np.minimum(1.0, ball / np.maximum(crofton, 1e-300)),
    }


def _axes(sums: ObjectSums, spacing: Spacing) -> Table:
    lengths, directions = principal_axes(sums, spacing)
    table: Table = {"elongation": lengths[:, 0] / lengths[:, 2]}
    for axis in range(3):
        table[f"axis{axis + 1}_um"] = lengths[:, axis]
    for axis in range(3):
        for column, letter in enumerate("zyx"):
            table[f"axis{axis + 1}_{letter}"] = directions[:, axis, column]
    return table


def principal_axes(sums: ObjectSums, spacing: Spacing) -> tuple[Floats, Floats]:
    """Return lengths and directions of the axes of the equivalent ellipsoids.

    Returns
    -------
    lengths : ndarray of float64, shape (n, 3)
        Full lengths in um, longest first.
    directions : ndarray of float64, shape (n, 3, 3)
        Unit vectors (z, y, x) of each axis; the largest component is positive.
    """
    edges = np.asarray(spacing.zyx)
    n = sums.voxels[:, None]
    mean = sums.first / n
    covariance = np.zeros((len(sums.ids), 3, 3))
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    for column, (a, b) in enumerate(pairs):
        value = sums.second[:, column] / n[:, 0] - mean[:, a] * mean[:, b]
        # A voxel has an extent: a uniform edge of length 1 has the variance 1/12.
        value = (np.maximum(value, 0) + 1 / 12 if a == b else value) * (
            edges[a] * edges[b]
        )
        covariance[:, a, b] = covariance[:, b, a] = value
    variances, vectors = np.linalg.eigh(covariance)
    lengths = 2 * np.sqrt(5 * np.maximum(variances[:, ::-1], 1e-300))
    directions = np.swapaxes(vectors, 1, 2)[:, ::-1]
    largest = np.abs(directions).argmax(axis=2)[..., None]
    sign = np.sign(np.take_along_axis(directions, largest, axis=2))
    return lengths, directions * np.where(sign == 0, 1, sign)


def _places(sums: ObjectSums, spacing: Spacing, shape: tuple[int, ...]) -> Table:
    edges = np.asarray(spacing.zyx, np.float64)
    table: Table = {}
    for axis, letter in enumerate("zyx"):
        table[f"{letter}0"] = sums.lowest[:, axis]
        table[f"{letter}1"] = sums.highest[:, axis] + 1
    centre = (sums.first / sums.voxels[:, None]) * edges
    for axis, letter in enumerate("zyx"):
        table[f"centroid_{letter}_um"] = centre[:, axis]
    gaps = np.minimum(sums.lowest, np.asarray(shape) - 1 - sums.highest)
    # In a single slice every object touches both faces along z, so z is left out.
    thick = [axis for axis in range(3) if shape[axis] > 1] or [0, 1, 2]
    table["touches_border"] = (gaps[:, thick] == 0).any(axis=1)
    table["border_distance_um"] = (gaps * edges)[:, thick].min(axis=1)
    return table

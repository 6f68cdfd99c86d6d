"""Small surfaces of prediction and truth, for a browser to turn."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.report.inputs import IGNORE, ReportVolume

MOST_TRIANGLES = 30_000
SMOOTH = 0.7  # Cells: enough to hide the steps of voxels.
FINEST = 72  # Cells along the longest edge: about what a small canvas can show.


def surfaces(volume: ReportVolume, *, ids: bool) -> dict[str, Any] | None:
    """Return the surfaces of the foreground of prediction and truth.

    Returns
    -------
    dict or None
        ``prediction`` and ``truth`` (if there is one), each with ``points`` (int16,
        3 a vertex: x, y, z from -32000 to 32000 over the longest edge), ``normals``
        (int8), ``colours`` (uint8, an id or class modulo 12), ``triangles`` (uint16
        or uint32; see ``wide``), all base64; None when nothing is predicted.
    """
    found = {}
    for side, labels in (("prediction", volume.prediction), ("truth", volume.truth)):
        if labels is not None:
            array = labels.read()
            ignored = side == "truth" and not ids
            mesh = _mesh(
                np.where(array == IGNORE, 0, array) if ignored else array, volume
            )
            if mesh is not None:
                found[side] = mesh
    return found if "prediction" in found else None


def _mesh(labels: NDArray[Any], volume: ReportVolume) -> dict[str, Any] | None:
    if not labels.any():
        return None
    cells = float(FINEST)
    mesh = triangulate(labels, volume.edges, cells)
    while mesh is not None and len(mesh[1]) > MOST_TRIANGLES:
        cells *= 0.97 * (MOST_TRIANGLES / len(mesh[1])) ** 0.5
        mesh = triangulate(labels, volume.edges, cells)
    if mesh is None:
        return None
    points, triangles, normals, colours = mesh
    extent = np.array(volume.edges) * labels.shape
    centred = (points - extent / 2) / extent.max() * 64000
    wide = len(points) > 65535
    return {
        "points": _text(centred[:, ::-1].round().astype("<i2")),
        "normals": _text((normals[:, ::-1] * 127).round().astype(np.int8)),
        "colours": _text((colours % 12).astype(np.uint8)),
        "triangles": _text(triangles.astype("<u4" if wide else "<u2")),
        "wide": wide,
        "count": len(triangles),
        "radius": float(np.linalg.norm(extent) / extent.max() * 32000),
    }


Mesh = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def triangulate(
    labels: NDArray[Any], edges: tuple[float, float, float], cells: float
) -> Mesh | None:
    """Return the surface of labels > 0, closed at the border of the volume.

    Parameters
    ----------
    labels : ndarray of unsigned integers, shape (Z, Y, X)
    edges : tuple of float
        Voxel edges (z, y, x).
    cells : float
        How many grid cells the longest edge is cut into, at most.

    Returns
    -------
    points : ndarray of float, shape (n, 3)
        (z, y, x) in the unit of `edges`.
    triangles : ndarray of int, shape (m, 3)
    normals : ndarray of float, shape (n, 3)
        Outward unit vectors.
    colours : ndarray of int, shape (n,)
        The label under each point.

    References
    ----------
    .. [1] Lewiner et al. 2003, doi:10.1080/10867651.2003.10487582
    """
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415
    from skimage.measure import marching_cubes  # noqa: PLC0415

    size = np.array(labels.shape) * edges
    step = np.maximum(1, (size.max() / cells / edges).round()).astype(int)
    share = _block_mean(labels > 0, step)
    padded = gaussian_filter(np.pad(share, 1), SMOOTH)
    if padded.max() < 0.5:
        padded = padded / padded.max()
    spacing = step * np.array(edges)
    points, triangles, normals, _ = marching_cubes(  # type: ignore[no-untyped-call]
        padded, 0.5, spacing=tuple(spacing), gradient_direction="descent"
    )
    points = points - spacing / 2  # The centre of the first cell, after padding.
    inside = points - normals * spacing / 2
    at = np.clip((inside / edges).astype(int), 0, np.array(labels.shape) - 1)
    colours = labels[tuple(at.T)].astype(np.int64)
    return points, triangles, normals, colours


def _block_mean(mask: NDArray[np.bool_], step: NDArray[Any]) -> NDArray[np.float32]:
    total: NDArray[np.float32] = mask.astype(np.float32)
    for axis in range(3):
        starts = np.arange(0, mask.shape[axis], step[axis])
        counts = np.diff(np.append(starts, mask.shape[axis]))
        shape = [1, 1, 1]
        shape[axis] = -1
        mean = np.add.reduceat(total, starts, axis=axis) / counts.reshape(shape)
        total = mean.astype(np.float32)
    return total


def _text(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")

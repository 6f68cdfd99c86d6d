"""Small surface meshes of prediction and truth for a rotating view in a browser."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.report.inputs import ReportVolume
from cellseg3d.report.legend import Legend

MOST_TRIANGLES = 30_000
SMOOTH = 0.7  # In cells; enough to hide the steps between voxels.
FINEST = 72  # Cells along the longest edge, about what a small canvas can show.


def surfaces(
    volume: ReportVolume, legend: Legend
) -> dict[str, list[dict[str, Any]]] | None:
    """Return the surfaces of prediction and truth, one of each class.

    Returns
    -------
    dict or None
        ``prediction`` and ``truth`` (if there is one), lists of surfaces, the largest
        class first, each with ``kind`` (class), ``points`` (int16, 3 a vertex: x, y, z
        from -32000 to 32000 over the longest edge), ``normals`` (int8), ``colours``
        (uint8, codes of `legend`), ``triangles`` (uint16 or uint32; see ``wide``), all
        base64; None when nothing is predicted, and for a 2D image.
    """
    if 1 in volume.prediction.shape:
        return None
    found = {}
    for side, labels in (("prediction", volume.prediction), ("truth", volume.truth)):
        if labels is not None:
            found[side] = _parts(labels.read(), volume, legend)
    return found if found["prediction"] else None


def _parts(
    labels: NDArray[Any], volume: ReportVolume, legend: Legend
) -> list[dict[str, Any]]:
    codes = legend.codes(labels)
    if legend.ids:
        mesh = _mesh(codes, volume, MOST_TRIANGLES)
        return [{"kind": "objects", **mesh}] if mesh else []
    values, voxels = np.unique(codes, return_counts=True)
    kept = [
        int(value)
        for value in values[np.argsort(-voxels, kind="stable")]
        if value not in (0, legend.unknown)
    ]
    parts = []
    for code in kept:
        only = np.where(codes == code, codes, 0)
        mesh = _mesh(only, volume, MOST_TRIANGLES // len(kept))
        if mesh is not None:
            parts.append({"kind": legend.names[code - 1], **mesh})
    return parts


def _mesh(
    labels: NDArray[Any], volume: ReportVolume, most: int
) -> dict[str, Any] | None:
    if not labels.any():
        return None
    cells = float(FINEST)
    points, triangles, normals, colours = triangulate(labels, volume.edges, cells)
    while len(triangles) > most and cells > 4:
        cells *= 0.97 * (most / len(triangles)) ** 0.5
        points, triangles, normals, colours = triangulate(labels, volume.edges, cells)
    extent = np.array(volume.edges) * labels.shape
    centred = (points - extent / 2) / extent.max() * 64000
    wide = len(points) > 65535
    return {
        "points": _text(centred[:, ::-1].round().astype("<i2")),
        "normals": _text((normals[:, ::-1] * 127).round().astype(np.int8)),
        "colours": _text(colours.astype(np.uint8)),
        "triangles": _text(triangles.astype("<u4" if wide else "<u2")),
        "wide": wide,
        "count": len(triangles),
        "radius": float(np.linalg.norm(centred, axis=1).max()),
    }


Mesh = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def triangulate(
    labels: NDArray[Any], edges: tuple[float, float, float], cells: float
) -> Mesh:
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
    if labels.max() == labels[labels > 0].min():  # One class: no point misses it.
        colours[:] = labels.max()
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

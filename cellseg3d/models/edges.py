"""Distances of the voxels of a label from the boundaries around them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellseg3d.core.ignore import IGNORE

Label = NDArray[Any]
Distance = NDArray[np.float32]
# Beyond this many sigmas the extra weight is below e**-8 of its height.
_TAIL = 4.0


def face_distance(label: Label, sampling: Sequence[float] | None = None) -> Distance:
    """Return the distance of each voxel from the nearest face between two classes.

    Parameters
    ----------
    label : ndarray of integers, any number of dimensions
        Class labels. 255 is not annotated and makes no boundary with a class.
    sampling : sequence of float, optional
        Voxel edges in the wanted unit, one per dimension; 1 by default.

    Returns
    -------
    ndarray of float32, same shape
        At least half a voxel; infinite where there is only one class, and where nothing
        is annotated.
    """
    distance = np.full(label.shape, np.inf, np.float32)
    for value in np.unique(label[label != IGNORE]):
        here = label == value
        other = ~here & (label != IGNORE)
        if other.any():
            distance[here] = _to_face(other, sampling)[here]
    return distance


def gap_distance(
    objects: Label, reach: float, sampling: Sequence[float] | None = None
) -> Distance:
    """Return the sum of distances to the two nearest objects; it is small in gaps [1]_.

    Parameters
    ----------
    objects : ndarray of integers
        Object ids, 0 for background.
    reach : float
        Distances beyond this, in units of `sampling`, are returned as infinite.
    sampling : sequence of float, optional
        Voxel edges, one a dimension; 1 by default.

    Returns
    -------
    ndarray of float32, same shape
        Infinite where fewer than two objects are within reach.

    References
    ----------
    .. [1] Ronneberger et al. 2015, MICCAI, doi:10.1007/978-3-319-24574-4_28
    """
    edges = tuple(sampling or (1.0,) * objects.ndim)
    margins = [int(np.ceil(reach / edge)) for edge in edges]
    nearest = np.full((2, *objects.shape), np.inf, np.float32)
    for number, box in enumerate(ndimage.find_objects(objects), start=1):
        if box is None:
            continue
        around = tuple(
            slice(max(0, side.start - margin), side.stop + margin)
            for side, margin in zip(box, margins, strict=True)
        )
        distance = ndimage.distance_transform_edt(
            objects[around] != number, sampling=edges
        ).astype(np.float32)
        distance[distance > reach] = np.inf
        first, second = nearest[0][around], nearest[1][around]
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    total: Distance = nearest[0] + nearest[1]
    return total


def signed_distance(
    label: Label, value: int, sampling: Sequence[float] | None = None
) -> Distance:
    """Return the distance from the boundary of a class, negative inside the class.

    Parameters
    ----------
    label : ndarray of integers
        Class labels. 255 is not annotated and makes no boundary with the class.
    value : int
        The class.
    sampling : sequence of float, optional
        Voxel edges, one a dimension; 1 by default.

    Returns
    -------
    ndarray of float32, same shape
        0 where not annotated, and everywhere when the class has no boundary.
    """
    known = label != IGNORE
    inside, outside = label == value, known & (label != value)
    if not (inside.any() and outside.any()):
        return np.zeros(label.shape, np.float32)
    signed = np.where(inside, -_to_face(outside, sampling), _to_face(inside, sampling))
    return np.where(known, signed, 0).astype(np.float32)


def edge_weights(
    label: Label,
    *,
    height: float = 10.0,
    sigma: float = 5.0,
    gaps: bool = False,
    sampling: Sequence[float] | None = None,
) -> Distance:
    """Return a weight per voxel: 1 far from edges, 1 + height on them.

    The weight is ``1 + height * exp(-d ** 2 / (2 * sigma ** 2))``. Here d is the
    distance to the nearest boundary or, with `gaps`, the sum of the distances to the
    two nearest objects, where an object is a connected component of one class.

    Parameters
    ----------
    label : ndarray of integers
        Class labels; 255 is not annotated. For object ids, use `ridge` of
        `gap_distance` instead.
    height, sigma : float
        Height and width of the weights; sigma in units of `sampling`.
    gaps : bool
        Whether to weigh only the gaps between neighbouring objects.
    sampling : sequence of float, optional
        Voxel edges, one a dimension; 1 by default.

    Returns
    -------
    ndarray of float32, same shape
    """
    if gaps:
        objects = _objects(np.where(label == IGNORE, 0, label))
        distance = gap_distance(objects, _TAIL * sigma, sampling)
    else:
        distance = face_distance(label, sampling)
    return ridge(distance, height=height, sigma=sigma)


def ridge(distance: Distance, *, height: float = 10.0, sigma: float = 5.0) -> Distance:
    """Return 1 + height * exp(-distance ** 2 / (2 * sigma ** 2)) as float32."""
    weights: Distance = np.exp(-np.square(distance) / (2.0 * sigma**2))
    return (1.0 + height * weights).astype(np.float32)


def _objects(label: Label) -> NDArray[np.int32]:
    objects = np.zeros(label.shape, np.int32)
    for value in np.unique(label[label > 0]):
        parts, _ = ndimage.label(label == value)
        objects += np.where(parts > 0, parts + objects.max(), 0).astype(np.int32)
    return objects


def _to_face(mask: NDArray[np.bool_], sampling: Sequence[float] | None) -> Distance:
    """Return the distance of each voxel's centre from the nearest voxel of a mask."""
    edges = (1.0,) * mask.ndim if sampling is None else tuple(sampling)
    nearest = ndimage.distance_transform_edt(
        ~mask, sampling=edges, return_distances=False, return_indices=True
    )
    squares = np.zeros(mask.shape, np.float32)
    for axis, edge in enumerate(edges):
        along = np.arange(mask.shape[axis]).reshape(
            [-1 if dim == axis else 1 for dim in range(mask.ndim)]
        )
        steps = np.abs(nearest[axis] - along) - 0.5
        squares += np.square(np.maximum(steps, 0) * edge, dtype=np.float32)
    faces: Distance = np.sqrt(squares)
    return faces

"""What nets for touching objects learn to predict, made from instance labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.spacing import Spacing
from cellseg3d.inference.instance_basins import BORDER, CORE
from cellseg3d.inference.instance_pairs import neighbours


def border_core_target(
    instances: NDArray[Any], border_um: float, spacing: Spacing | None = None
) -> NDArray[np.uint8]:
    """Return background 0, core 1 and border 2 of each object [1]_.

    Parameters
    ----------
    instances : ndarray of unsigned integers, shape (Z, Y, X)
        Object ids, 0 background.
    border_um : float
        Voxels no farther than this from another object or the background are border;
        in voxels when the spacing is unknown. The outermost layer always is, but an
        object too thin for a core keeps its deepest voxels as one.

    Returns
    -------
    ndarray of uint8, shape (Z, Y, X)

    References
    ----------
    .. [1] Caicedo et al. 2019, Cytometry A 95:952, doi:10.1002/cyto.a.23863
    """
    import edt  # noqa: PLC0415

    edges = (1.0, 1.0, 1.0) if spacing is None else spacing.zyx
    ids = np.ascontiguousarray(instances, np.uint32)
    distance = edt.edt(ids, anisotropy=edges, black_border=False, parallel=1)
    deepest = np.zeros(int(ids.max(initial=0)) + 1, np.float32)
    np.maximum.at(deepest, ids.ravel(), distance.ravel())
    # A voxel's distance counts to the centre of the next object's voxel.
    bound = np.maximum(border_um, min(edges)) * (1 + 1e-6)
    core = (distance > bound) | (distance >= deepest[ids])
    target = np.where(core, np.uint8(CORE), np.uint8(BORDER))
    target[ids == 0] = 0
    return target


def affinity_target(instances: NDArray[Any]) -> NDArray[np.uint8]:
    """Return whether each voxel and its lower neighbour belong to one object.

    Parameters
    ----------
    instances : ndarray of unsigned integers, shape (Z, Y, X)
        Object ids, 0 background.

    Returns
    -------
    ndarray of uint8, shape (3, Z, Y, X)
        1 where they do, along z, y and x; 0 elsewhere and in each first layer.
    """
    links = np.zeros((3, *instances.shape), np.uint8)
    for axis in range(3):
        here, there = neighbours(instances.shape, instances.shape, axis)
        same = (instances[here] == instances[there]) & (instances[here] > 0)
        links[axis][there] = same
    return links

"""Test an attribution: take voxels out, and see how far the object's score falls."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cellseg3d.explanation.attribution import blurred
from cellseg3d.explanation.crop import Crop

# Shares of the neighbourhood that are taken out.
SHARES = (0.02, 0.05, 0.1, 0.2)
# How often as many voxels are drawn at random.
DRAWS = 5
# The neighbourhood reaches this many voxels around the object.
REACH = 8


def deletion_test(
    crop: Crop, attributed: NDArray[np.float32], value: int, seed: int = 0
) -> dict[str, Any]:
    """Return how far the score falls without the voxels that an attribution names.

    The most attributed voxels of the object's neighbourhood are replaced by the local
    mean, and, for comparison, as many voxels of it that are drawn at random.

    Parameters
    ----------
    crop : Crop
    attributed : ndarray of float32, shape (z, y, x)
        The attribution; the highest values name the voxels that raise the score.
    value : int
        The class.
    seed : int
        Seed of the random choice.

    Returns
    -------
    dict
        ``score`` of the object in nats, ``rows`` with ``share``, ``voxels``, ``fall``
        and ``fall_random`` (the mean of `DRAWS` draws) in nats, and ``holds``: whether
        ``fall`` is the larger one for each share.
    """
    near = ndimage.binary_dilation(crop.inside.numpy(), iterations=REACH)
    places = np.flatnonzero(near)
    order = places[np.argsort(-attributed.ravel()[places], kind="stable")]
    rng = np.random.default_rng(seed)
    without = blurred(crop.image)
    score = _score(crop, crop.image, value)

    def fall(chosen: NDArray[np.intp]) -> float:
        gone = torch.zeros(crop.inside.numel(), dtype=torch.bool)
        gone[torch.from_numpy(chosen)] = True
        image = torch.where(gone.view(crop.inside.shape), without, crop.image)
        return score - _score(crop, image, value)

    rows = []
    for share in SHARES:
        count = max(1, round(share * len(places)))
        drawn = [rng.choice(places, count, replace=False) for _ in range(DRAWS)]
        rows.append(
            {
                "share": share,
                "voxels": count,
                "fall": round(fall(order[:count]), 4),
                "fall_random": round(float(np.mean([fall(d) for d in drawn])), 4),
            }
        )
    holds = all(row["fall"] > row["fall_random"] for row in rows)
    return {"score": round(score, 4), "rows": rows, "draws": DRAWS, "holds": holds}


def _score(crop: Crop, image: torch.Tensor, value: int) -> float:
    with torch.no_grad():
        return float(crop.score(image, value))

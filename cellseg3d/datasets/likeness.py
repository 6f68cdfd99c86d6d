"""Tell whether a volume looks like those that a network was trained on.

A volume is described by some 20 numbers, its features: the distribution of grey values,
the noise, the sharpness of edges, and the correlation of voxels some distance apart.
They are measured on scaled intensities, so a detector's gain and offset do not matter.
The distance of a volume from the training volumes is the Mahalanobis distance of its
features. A constant is added to the variances, because they are estimated from few
volumes.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.intensity import IntensityScale

# Features are measured in blocks of this shape, at up to three places along each axis.
BLOCK = zyx((24, 128, 128))
PLACES = (0.15, 0.5, 0.85)
QUANTILES = (5, 25, 50, 75, 95)
LAGS = (1, 2, 4, 8, 16)
# The least standard deviation assumed for a feature. With 0.08, on the data sets of the
# shipped weights, each volume lies within 1.24 of the others of its set, and electron
# micrographs lie 1.34 to 2.55 from tomograms.
FLOOR = 0.08
# The limit is ROOM times the largest distance of a training volume from the others, and
# at least LEAST_LIMIT.
ROOM, LEAST_LIMIT = 1.15, 1.1
WORDS = {
    "brightness": "its grey values are distributed differently",
    "noise": "it is noisier or smoother",
    "edge": "its edges are sharper, softer or inverted",
    "texture": "its structures have another size in voxels",
}


def volume_features(volume: Volume, scale: IntensityScale) -> dict[str, float]:
    """Return the features of a volume, measured in blocks spread evenly over it.

    Parameters
    ----------
    volume : Volume
        Raw intensities.
    scale : IntensityScale
        How the network scales them.

    Returns
    -------
    dict of str to float
        Features by name, each about -1 to 1. The first word of a name is a key of
        `WORDS`. Features that cannot be measured, such as a correlation along z in a
        single slice, are absent. Of a volume of several channels, each feature is the
        mean of the channels.
    """
    if volume.channels > 1:
        return _mean([volume_features(each, scale) for each in volume.each_channel()])
    offset, factor = scale.measure(volume)
    blocks = [
        scale.apply(volume.read(roi), offset, factor) for roi in _places(volume.shape)
    ]
    values = np.concatenate([block.ravel() for block in blocks])
    spread = float(values.std())
    found = {
        f"brightness_{q}": float(value)
        for q, value in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)
    }
    found["brightness_spread"] = spread
    if spread > 0:
        found["brightness_skew"] = _skew(values)
        found |= _second_differences(blocks, spread)
        for lag in LAGS:
            found[f"texture_plane_{lag}"] = _correlation(blocks, lag, axes=(1, 2))
        found["texture_z_1"] = _correlation(blocks, 1, axes=(0,))
    return {key: value for key, value in found.items() if np.isfinite(value)}


def _mean(features: Sequence[Mapping[str, float]]) -> dict[str, float]:
    shared = set.intersection(*(set(each) for each in features))
    return {
        name: float(np.mean([each[name] for each in features]))
        for name in features[0]
        if name in shared
    }


def profile_of(features: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the mean and covariance of the features of training volumes, for JSON.

    Parameters
    ----------
    features : sequence of mapping
        The features of each training volume; at least one volume.

    Returns
    -------
    dict
        ``names``; ``mean``; ``covariance`` as a list of rows; ``limit``, the largest
        distance expected of a volume of this kind; and ``volumes``, their number.
    """
    shared = set.intersection(*(set(each) for each in features))
    names = sorted(shared)
    table = np.array([[each[name] for name in names] for each in features])
    rows = np.arange(len(table))
    apart = [
        _distance(table[row] - table[rows != row].mean(0), table[rows != row])
        for row in rows
        if len(table) > 1
    ]
    return {
        "names": names,
        "mean": [round(float(value), 4) for value in table.mean(0)],
        "covariance": np.round(_covariance(table), 5).tolist(),
        "limit": round(max(LEAST_LIMIT, ROOM * max(apart, default=0.0)), 3),
        "volumes": len(table),
    }


def distance(features: Mapping[str, float], profile: Mapping[str, Any]) -> float:
    """Return the distance of a volume from a profile; 1 is a usual distance."""
    names, offset, covariance = _known(features, profile)
    return _mahalanobis(offset, covariance) if names else 0.0


def unlike(features: Mapping[str, float], profile: Mapping[str, Any]) -> list[str]:
    """Return in words how a volume differs from a profile; an empty list if it fits."""
    if distance(features, profile) <= profile["limit"]:
        return []
    names, offset, covariance = _known(features, profile)
    units = np.abs(offset) / np.sqrt(np.diag(covariance) + FLOOR**2)
    largest = sorted(zip(units, names, strict=True), reverse=True)[:3]
    return [WORDS[kind] for kind in dict.fromkeys(n.split("_")[0] for _, n in largest)]


def _known(
    features: Mapping[str, float], profile: Mapping[str, Any]
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return the features that both have, their difference and their covariance."""
    index = [i for i, name in enumerate(profile["names"]) if name in features]
    names = [profile["names"][i] for i in index]
    mean = np.array(profile["mean"])[index]
    values = np.array([features[name] for name in names])
    return names, values - mean, np.array(profile["covariance"])[np.ix_(index, index)]


def _distance(offset: NDArray[np.float64], table: NDArray[np.float64]) -> float:
    return _mahalanobis(offset, _covariance(table))


def _mahalanobis(offset: NDArray[np.float64], covariance: NDArray[np.float64]) -> float:
    softened = covariance + np.eye(len(offset)) * FLOOR**2
    return float(np.sqrt(offset @ np.linalg.solve(softened, offset) / len(offset)))


def _covariance(table: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(table) < 2:
        return np.zeros((table.shape[1],) * 2)
    return np.atleast_2d(np.cov(table.T))


def _places(shape: Zyx) -> Iterator[Roi]:
    starts = []
    for length, size in zip(shape, BLOCK, strict=True):
        free = max(0, length - size)
        starts.append(sorted({int(free * place) for place in PLACES}))
    for corner in itertools.product(*starts):
        stop = [min(s + b, n) for s, b, n in zip(corner, BLOCK, shape, strict=True)]
        yield Roi(zyx(corner), zyx(stop))


def _second_differences(
    blocks: Sequence[NDArray[np.float32]], spread: float
) -> dict[str, float]:
    """Return noise, sharpness and sign of edges, from the Laplacian of each slice.

    Most voxels lie off edges, so the median of absolute values measures noise. The
    standard deviation measures edges, because it depends on the largest values.
    """
    parts = [_laplacian(b).ravel() for b in blocks if min(b.shape[1:]) > 2]
    if not parts:
        return {}
    values = np.concatenate(parts) / np.float32(np.sqrt(20.0) * spread)
    if not values.std() > 0:
        return {}
    return {
        "noise_plane": float(np.median(np.abs(values)) / 0.6745),
        "edge_strength": float(values.std()),
        "edge_sign": _skew(values),
    }


def _laplacian(block: NDArray[np.float32]) -> NDArray[np.float32]:
    inner = np.float32(4) * block[:, 1:-1, 1:-1]
    inner -= block[:, :-2, 1:-1]
    inner -= block[:, 2:, 1:-1]
    inner -= block[:, 1:-1, :-2]
    inner -= block[:, 1:-1, 2:]
    return inner


def _skew(values: NDArray[np.float32]) -> float:
    """Return the skewness, cut off at -3 and 3 and divided by 3."""
    return float(np.clip(stats.skew(values.astype(np.float64)), -3, 3) / 3)


def _correlation(
    blocks: Sequence[NDArray[np.float32]], lag: int, axes: Sequence[int]
) -> float:
    """Return the correlation of voxels that are `lag` voxels apart along the axes."""
    ones, twos = [], []
    for block, axis in itertools.product(blocks, axes):
        length = block.shape[axis]
        if length > lag:
            ones.append(block.take(range(length - lag), axis=axis).ravel())
            twos.append(block.take(range(lag, length), axis=axis).ravel())
    if not ones:
        return float("nan")
    first, second = np.concatenate(ones), np.concatenate(twos)
    if not (first.std() > 0 and second.std() > 0):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])

"""The table of objects: what was found, what was missed, and where to look."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.metrics.instance import ObjectMatch
from cellseg3d.metrics.objects import label_components
from cellseg3d.report.inputs import IGNORE, ReportVolume

MOST_ROWS = 1500


def object_rows(
    volume: ReportVolume, match: ObjectMatch | None, *, ids: bool
) -> tuple[list[dict[str, Any]], int]:
    """Return a row for each predicted object and each missed one, doubtful ones first.

    Parameters
    ----------
    volume : ReportVolume
    match : ObjectMatch or None
        Its objects and those of its truth; None without a truth.
    ids : bool
        Label values are object ids; else objects are components of the foreground.

    Returns
    -------
    rows : list of dict
        ``id``, ``state`` (found, extra, missed, or object without a truth), ``iou``
        (best overlap), ``voxels``, ``volume`` (in the unit cubed), ``place`` (z, y, x
        voxel of the object nearest to its centroid). At most 1500.
    total : int
        How many there are in all.
    """
    predicted = _objects(volume, truth=False, ids=ids)
    voxel = float(np.prod(volume.edges))
    rows = _rows(predicted, "object", voxel)
    if match is not None:
        best = np.zeros(len(match.predicted_ids))
        np.maximum.at(best, match.predicted, match.iou)
        matched = match.matched()
        found = set(match.predicted_ids[match.predicted[matched]].tolist())
        score = dict(zip(match.predicted_ids.tolist(), best.tolist(), strict=True))
        for row in rows:
            row["iou"] = round(score.get(row["id"], 0.0), 3)
            row["state"] = "found" if row["id"] in found else "extra"
        seen = set(match.true_ids[match.true[matched]].tolist())
        rest = np.zeros(len(match.true_ids))
        np.maximum.at(rest, match.true, match.iou)
        overlap = dict(zip(match.true_ids.tolist(), rest.tolist(), strict=True))
        truth = _rows(_objects(volume, truth=True, ids=ids), "missed", voxel)
        for row in truth:
            row["iou"] = round(overlap.get(row["id"], 0.0), 3)
        rows += [row for row in truth if row["id"] not in seen]
    rows.sort(key=lambda row: (row.get("iou", 0.0), -row["voxels"]))
    return rows[:MOST_ROWS], len(rows)


def _objects(volume: ReportVolume, *, truth: bool, ids: bool) -> NDArray[Any]:
    labels = volume.truth if truth and volume.truth is not None else volume.prediction
    array = labels.read()
    if ids:
        return array
    inside = array > 0
    if volume.truth is not None:
        inside &= volume.truth.read() != IGNORE
    return label_components(inside)


def _rows(labels: NDArray[Any], state: str, voxel: float) -> list[dict[str, Any]]:
    """Return id, size and a voxel inside each object, near its centroid."""
    flat = labels.ravel()
    inside = np.flatnonzero(flat)
    if not len(inside):
        return []
    values, index, voxels = np.unique(
        flat[inside], return_inverse=True, return_counts=True
    )
    place = np.stack(np.unravel_index(inside, labels.shape), axis=1).astype(np.float32)
    centroid = np.stack(
        [np.bincount(index, place[:, axis]) / voxels for axis in range(3)], axis=1
    )
    away = ((place - centroid[index]) ** 2).sum(1)
    order = np.lexsort((away, index))
    nearest = order[np.searchsorted(index[order], np.arange(len(values)))]
    return [
        {
            "id": int(value),
            "state": state,
            "voxels": int(size),
            "volume": float(f"{size * voxel:.4g}"),
            "place": [int(part) for part in place[at]],
        }
        for value, size, at in zip(values, voxels, nearest, strict=True)
    ]

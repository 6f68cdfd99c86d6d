"""The table of objects: what was found, what was missed, and where to look."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.metrics.contingency import Ids
from cellseg3d.metrics.instance import ObjectMatch
from cellseg3d.metrics.morphometry import measure_objects
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
        (best overlap), ``volume`` (um^3, or voxels without a spacing), ``voxels``,
        ``sphericity``, ``intensity`` (mean; None without an image), ``place`` (z, y, x
        voxel of the object nearest to its centre). At most 1500.
    total : int
        How many there are in all.
    """
    predicted = truth = _objects(volume, truth=False, ids=ids)
    rows = _measured(volume, predicted, "object")
    if match is not None:
        found = set(match.predicted_ids[match.predicted[match.matched()]].tolist())
        best = _best_iou(match.predicted_ids, match.predicted, match)
        for row in rows:
            row["iou"] = best[row["id"]]
            row["state"] = "found" if row["id"] in found else "extra"
        seen = set(match.true_ids[match.true[match.matched()]].tolist())
        best = _best_iou(match.true_ids, match.true, match)
        truth = _objects(volume, truth=True, ids=ids)
        for row in _measured(volume, truth, "missed"):
            if row["id"] not in seen:
                rows.append(row | {"iou": best[row["id"]]})
    rows.sort(key=lambda row: (row.get("iou", 0.0), -row["voxels"]))
    shown = rows[:MOST_ROWS]
    for row in shown:
        labels = truth if row["state"] == "missed" else predicted
        row["place"] = inner_voxel(labels, row["id"], row.pop("box"))
    return shown, len(rows)


def _objects(volume: ReportVolume, *, truth: bool, ids: bool) -> NDArray[Any]:
    labels = volume.truth if truth and volume.truth is not None else volume.prediction
    array = labels.read()
    if ids:
        return array
    inside = array > 0
    if volume.truth is not None:
        inside &= volume.truth.read() != IGNORE
    return label_components(inside)


def _best_iou(ids: Ids, place: Ids, match: ObjectMatch) -> dict[int, float]:
    """Return each object's best intersection over union with any of the other side."""
    best = np.zeros(len(ids))
    np.maximum.at(best, place, match.iou)
    return dict(zip(ids.tolist(), best.round(3).tolist(), strict=True))


def _measured(
    volume: ReportVolume, labels: NDArray[Any], state: str
) -> list[dict[str, Any]]:
    """Return the measurements that the table shows, and each object's box."""
    if not labels.any():
        return []
    image = volume.image.read() if volume.image is not None else None
    table = measure_objects(labels, volume.spacing, image)
    columns = {
        "id": table["id"],
        "volume": table["volume_um3" if volume.spacing else "voxels"],
        "voxels": table["voxels"],
        "sphericity": table["sphericity"],
        "intensity": table.get("mean_intensity", [None] * len(table["id"])),
    }
    boxes = np.stack([table[name] for name in ("z0", "z1", "y0", "y1", "x0", "x1")], 1)
    return [
        {name: _plain(values[row]) for name, values in columns.items()}
        | {"state": state, "box": boxes[row].tolist()}
        for row in range(len(boxes))
    ]


def inner_voxel(labels: NDArray[Any], value: int, box: Sequence[int]) -> list[int]:
    """Return the voxel (z, y, x) of an object that is nearest to its centre.

    A centre itself may lie outside a bent object.

    Parameters
    ----------
    labels : ndarray of integers, shape (Z, Y, X)
    value : int
        The object's id.
    box : sequence of int
        Its half-open bounding box: z0, z1, y0, y1, x0, x1.
    """
    z0, z1, y0, y1, x0, x1 = box
    inside = np.argwhere(labels[z0:z1, y0:y1, x0:x1] == value)
    nearest = ((inside - inside.mean(axis=0)) ** 2).sum(axis=1).argmin()
    found: list[int] = (inside[nearest] + (z0, y0, x0)).tolist()
    return found


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a number as JSON and a table show it: four digits, None for undefined."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    whole = isinstance(value, np.integer | int)
    return int(value) if whole else float(f"{float(value):.4g}")

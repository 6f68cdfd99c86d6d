"""The table of objects: which were found, which were missed, and where they are."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.metrics.contingency import Ids
from cellseg3d.metrics.morphometry import measure_objects
from cellseg3d.metrics.object_scores import ObjectMatch
from cellseg3d.report.inputs import ReportVolume
from cellseg3d.report.object_sets import ObjectSet

MOST_ROWS = 1500


def object_rows(
    volume: ReportVolume, sets: Iterable[ObjectSet]
) -> tuple[list[dict[str, Any]], int]:
    """Return a row for each predicted object and each missed one, doubtful ones first.

    Parameters
    ----------
    volume : ReportVolume
    sets : iterable of ObjectSet
        Its objects, class by class.

    Returns
    -------
    rows : list of dict
        ``id``, ``kind`` (class), ``state`` (found, extra, missed, or object without a
        truth), ``iou`` (best overlap), ``size`` (in the volume's `size_unit`),
        ``voxels``, ``sphericity`` (None for a 2D image), ``intensity`` (mean; None
        without an image),
        ``place`` (z, y, x voxel of the object nearest to its centre). At most 1500.
    total : int
        How many there are in all.
    """
    image = volume.image.read() if volume.image is not None else None
    rows = [
        row | {"labels": labels, "kind": each.kind}
        for each in sets
        for labels, found in _rows(each, volume, image)
        for row in found
    ]
    rows.sort(key=lambda row: (row.get("iou", 0.0), -row["voxels"]))
    shown = rows[:MOST_ROWS]
    for row in shown:
        row["place"] = inner_voxel(row.pop("labels"), row["id"], row.pop("box"))
    return shown, len(rows)


Rows = list[dict[str, Any]]


def _rows(
    objects: ObjectSet, volume: ReportVolume, image: NDArray[Any] | None
) -> Iterator[tuple[NDArray[Any], Rows]]:
    """Yield predicted and missed objects, each with the ids that they are found in."""
    rows = _measured(objects.predicted, volume, image, "object")
    match, truth = objects.match, objects.truth
    if match is None or truth is None:
        yield objects.predicted, rows
        return
    found = set(match.predicted_ids[match.predicted[match.matched()]].tolist())
    best = _best_iou(match.predicted_ids, match.predicted, match)
    for row in rows:
        row["iou"] = best[row["id"]]
        row["state"] = "found" if row["id"] in found else "extra"
    yield objects.predicted, rows
    seen = set(match.true_ids[match.true[match.matched()]].tolist())
    best = _best_iou(match.true_ids, match.true, match)
    missed = _measured(truth, volume, image, "missed")
    yield (
        truth,
        [row | {"iou": best[row["id"]]} for row in missed if row["id"] not in seen],
    )


def _best_iou(ids: Ids, place: Ids, match: ObjectMatch) -> dict[int, float]:
    """Return each object's best intersection over union with any of the other side."""
    best = np.zeros(len(ids))
    np.maximum.at(best, place, match.iou)
    return dict(zip(ids.tolist(), best.round(3).tolist(), strict=True))


def _measured(
    labels: NDArray[Any],
    volume: ReportVolume,
    image: NDArray[Any] | None,
    state: str,
) -> Rows:
    """Return the measurements that the table shows, and each object's box."""
    if not labels.any():
        return []
    table = measure_objects(labels, volume.spacing, image)
    none = [None] * len(table["id"])
    columns = {
        "id": table["id"],
        "size": table["voxels"] * volume.voxel_size if volume.spacing else none,
        "voxels": table["voxels"],
        "sphericity": none if volume.flat else table["sphericity"],
        "intensity": table.get("mean_intensity", none),
    }
    boxes = np.stack([table[name] for name in ("z0", "z1", "y0", "y1", "x0", "x1")], 1)
    return [
        {name: _plain(values[row]) for name, values in columns.items()}
        | {"state": state, "box": boxes[row].tolist()}
        for row in range(len(boxes))
    ]


def inner_voxel(labels: NDArray[Any], value: int, box: Sequence[int]) -> list[int]:
    """Return the voxel (z, y, x) of an object that is nearest to its centre.

    The centre itself may lie outside an object that is bent.

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

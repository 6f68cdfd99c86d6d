"""How many objects there are and how large, which needs no truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.report.charts import Axes, histogram_chart
from cellseg3d.report.figures import safe
from cellseg3d.report.inputs import ReportVolume
from cellseg3d.report.object_sets import ObjectSet
from cellseg3d.report.tables import tile

# A histogram of fewer objects says less than the table.
LEAST_OBJECTS = 5
Sizes = NDArray[np.float64]


@dataclass(frozen=True)
class SizesOfKind:
    """The predicted objects of one class in one volume.

    Parameters
    ----------
    volume, kind : str
        The names of the volume and of the class.
    sizes : ndarray of float64, shape (n,)
        Size of each object in `unit`.
    whole : float
        Size of the whole volume in `unit`.
    unit : str
        ``"um^3"``, ``"um^2"`` for a 2D image, or ``"voxels"`` or ``"pixels"`` without a
        spacing.
    """

    volume: str
    kind: str
    sizes: Sizes
    whole: float
    unit: str

    @property
    def share(self) -> float:
        """The share of the volume that the objects fill, from 0 to 1."""
        return float(self.sizes.sum() / self.whole)


def sizes_of(volume: ReportVolume, objects: ObjectSet) -> SizesOfKind:
    """Return the sizes of the predicted objects of a class."""
    voxels = np.bincount(_flat_ids(objects.predicted))[1:]
    return SizesOfKind(
        volume.name,
        objects.kind,
        (voxels[voxels > 0] * volume.voxel_size).astype(np.float64),
        objects.predicted.size * volume.voxel_size,
        volume.size_unit,
    )


def _flat_ids(labels: NDArray[Any]) -> NDArray[np.intp]:
    """Return labels in one row, with ids from 1 on; large ids would fill the memory."""
    ids, places = np.unique(labels, return_inverse=True)
    start = 0 if len(ids) and ids[0] == 0 else 1
    found: NDArray[np.intp] = places.ravel() + start
    return found


def size_rows(found: Sequence[SizesOfKind], *, ids: bool) -> dict[str, Any] | None:
    """Return a table of counts and sizes, one row per volume and class.

    Object ids have no class.
    """
    if not found:
        return None
    units = " or ".join(dict.fromkeys(each.unit for each in found))
    first = ["volume"] if ids else ["volume", "class"]
    head = [*first, "objects", "share of the volume"]
    head += [f"{name} ({units})" for name in ("total", "smallest", "median", "largest")]
    rows = []
    for each in found:
        spread = (
            [each.sizes.min(), float(np.median(each.sizes)), each.sizes.max()]
            if len(each.sizes)
            else []
        )
        numbers = [each.sizes.sum(), *spread]
        cells = [amount(value) for value in numbers] + [""] * (3 - len(spread))
        share = f"{100 * each.share:.2f} %"
        names = [each.volume] if ids else [each.volume, each.kind]
        rows.append([*names, str(len(each.sizes)), share, *cells])
    return {"head": head, "rows": rows}


def size_charts(found: Sequence[SizesOfKind], *, ids: bool) -> list[dict[str, Any]]:
    """Return a histogram of object sizes for each class that has enough objects."""
    charts = []
    for kind in dict.fromkeys(each.kind for each in found):
        for unit in dict.fromkeys(each.unit for each in found):
            sizes = _pooled(found, kind, unit)
            if len(sizes) < LEAST_OBJECTS:
                continue
            axes = Axes(f"size ({unit})", "objects")
            svg = safe(histogram_chart(sizes.tolist(), axes))
            title = f"{len(sizes):,} {'objects' if ids else f'pieces of {kind}'}"
            charts.append({"title": title, "svg": svg})
    return charts


def size_tiles(found: Sequence[SizesOfKind], *, ids: bool) -> list[dict[str, str]]:
    """Return the most important numbers of a prediction without a truth.

    Ids are counted. Of a class the share of the volume is shown first, since the number
    of its connected pieces counts specks as well.
    """
    tiles = []
    for kind in dict.fromkeys(each.kind for each in found):
        own = [each for each in found if each.kind == kind]
        unit = own[0].unit
        sizes = _pooled(own, kind, unit)
        volumes = f" in {len(own)} volumes" if len(own) > 1 else ""
        if ids:
            middle = f"median {amount(np.median(sizes))} {unit}" if len(sizes) else ""
            tiles.append(tile("Objects", f"{len(sizes):,}", f"{middle}{volumes}"))
            continue
        count = sum(len(each.sizes) for each in own)
        total = sum(each.sizes.sum() for each in own)
        share = 100 * total / sum(each.whole for each in own)
        pieces = f"{count:,} piece{'s' * (count != 1)}"
        if count > 1 and len(own) == 1:
            pieces += f", the largest {100 * max(sizes) / total:.0f} %"
        note = f"{amount(total)} {unit}, {pieces}{volumes}"
        tiles.append(tile(f"Share, {kind}", f"{share:.1f} %", note))
    return tiles


def amount(value: float) -> str:
    """Return a size in four digits, or with commas if it is large."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _pooled(found: Sequence[SizesOfKind], kind: str, unit: str) -> Sizes:
    parts = [each.sizes for each in found if each.kind == kind and each.unit == unit]
    return np.concatenate(parts) if parts else np.empty(0)

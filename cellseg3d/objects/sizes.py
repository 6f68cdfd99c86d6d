"""Measure the objects in training labels, to recognise specks in predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.volumes import case_classes, read_case_label
from cellseg3d.metrics.components import label_components
from cellseg3d.objects.label import LabelledObjects
from cellseg3d.objects.options import ObjectOptions

# Number of label files to read; more would hardly change the sizes.
MOST_LABELS = 12
# A speck is smaller than SHARE times the quantile QUANTILE of the training objects.
QUANTILE, SHARE = 0.05, 0.5
# If no least size is known, a speck is smaller than this share of a usual object.
TINY = 0.01


@dataclass(frozen=True)
class ObjectSizes:
    """The volumes of the objects in training labels.

    Parameters
    ----------
    volumes : dict of str to ndarray of float64, shape (n,)
        Volume of each object in `unit` cubed, by class.
    unit : str
        ``"um"``, or ``"voxels"`` when the spacing of some volume is unknown.
    """

    volumes: Mapping[str, NDArray[np.float64]]
    unit: str

    @property
    def count(self) -> int:
        """The number of objects."""
        return sum(len(each) for each in self.volumes.values())

    @property
    def least(self) -> float:
        """The volume below which a prediction's object is a speck."""
        lows = [
            float(np.quantile(each, QUANTILE))
            for each in self.volumes.values()
            if len(each)
        ]
        return SHARE * min(lows)

    @property
    def mean(self) -> float:
        """The mean volume of an object."""
        return float(np.concatenate(list(self.volumes.values())).mean())


def training_sizes(cases: Sequence[Case], datalist: Datalist) -> ObjectSizes | None:
    """Return the sizes of the objects in the labels of training cases.

    In labels of ids, the voxels of one id are an object; in labels of classes, each
    connected piece of a class is one.

    Parameters
    ----------
    cases : sequence of Case
        Training cases. Up to `MOST_LABELS` labelled ones are read, evenly chosen.
    datalist : Datalist
        The data set, which says what the label values mean.

    Returns
    -------
    ObjectSizes or None
        None when the labels hold no object.
    """
    labelled = [case for case in cases if case.label is not None]
    if not labelled:
        return None
    last = len(labelled) - 1
    picked = np.unique(np.linspace(0, last, MOST_LABELS).round().astype(int))
    voxels: dict[str, list[NDArray[np.float64]]] = {}
    known = True
    for case in (labelled[index] for index in picked.tolist()):
        spacing = case.open_image().spacing
        known = known and spacing is not None
        for name, sizes in _sizes(case, datalist).items():
            pair = np.stack([sizes, sizes * _volume(spacing)])
            voxels.setdefault(name, []).append(pair)
    row = 1 if known else 0
    found = {name: np.concatenate(each, axis=1)[row] for name, each in voxels.items()}
    return ObjectSizes(found, "um" if known else "voxels") if found else None


def least_size_note(found: LabelledObjects) -> str:
    """Return a sentence about specks among the objects; empty if there are none."""
    if found.specks:
        least = f"{found.options.min_volume_um3:.3g} {_cubed(found.unit)}"
        kinds = "speck" if found.specks == 1 else "specks"
        were = "was" if found.specks == 1 else "were"
        return f"{found.specks:,} {kinds} smaller than {least} {were} left out"
    rising = np.sort(found.volumes)
    if not len(rising):
        return ""
    total = np.cumsum(rising)
    usual = float(rising[np.searchsorted(total, total[-1] / 2)])
    tiny = int(np.count_nonzero(rising < TINY * usual))
    if not tiny:
        return ""
    return (
        f"{tiny:,} of them are specks, smaller than {TINY * usual:.3g} "
        f"{_cubed(found.unit)}, a hundredth of the usual object; leave them out with "
        "`min_volume_um3`"
    )


def converted(
    options: ObjectOptions, unit: str, spacing: Spacing | None, of_unit: Spacing | None
) -> ObjectOptions:
    """Return options with lengths in um if a volume's spacing is known, else in voxels.

    Parameters
    ----------
    options : ObjectOptions
        Options with lengths in `unit`.
    unit : {"um", "voxels"}
        The present unit of lengths.
    spacing : Spacing or None
        Spacing of the volume whose objects are to be found.
    of_unit : Spacing or None
        Spacing of the training volumes, which is used if `spacing` is unknown.
    """
    if (unit == "um") == (spacing is not None):
        return options
    edges = spacing or of_unit
    if edges is None:
        return options
    volume, length = edges.voxel_volume_um3, min(edges.zyx)
    if unit == "um":
        volume, length = 1 / volume, 1 / length
    values = options.as_dict()
    for name, value in values.items():
        if name.endswith("_um3") and value is not None:
            values[name] = value * volume
        elif name.endswith("_um") and value is not None:
            values[name] = value * length
    return ObjectOptions.parse(values)


def _sizes(case: Case, datalist: Datalist) -> dict[str, NDArray[np.int64]]:
    """Return the number of voxels of each object in one label, by class."""
    raw = read_case_label(case, datalist)
    values = raw.read()
    classes = case_classes(values, datalist, case, raw.name)
    found = {}
    for index, name in enumerate(datalist.classes[1:], start=1):
        mask = classes == index
        if mask.any():
            ids: NDArray[Any] = values
            if datalist.labels == "classes":
                ids = label_components(mask)
            found[name] = np.unique(ids[mask], return_counts=True)[1]
    return found


def _volume(spacing: Spacing | None) -> float:
    return 1.0 if spacing is None else spacing.voxel_volume_um3


def _cubed(unit: str) -> str:
    return "um^3" if unit == "um" else unit

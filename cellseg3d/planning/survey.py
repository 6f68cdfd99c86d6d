"""Measure the properties of a data set that the settings of a training depend on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.roi import Zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.volumes import case_classes, read_case_label
from cellseg3d.metrics.components import label_components

# Number of label files to read; reading more would not change the plan.
MOST_LABELS = 12


@dataclass(frozen=True)
class ClassFacts:
    """Facts about one foreground class.

    Parameters
    ----------
    name : str
    share : float
        Share of the annotated voxels, in [0, 1].
    objects : int
        Number of connected components, or of object ids.
    diameter : float
        Typical diameter in um, in voxels when the spacing is unknown: of a ball (in one
        slice: a disc) as large as the object that the median voxel lies in. Objects at
        the border count only when all touch it. NaN without objects.
    """

    name: str
    share: float
    objects: int
    diameter: float


@dataclass(frozen=True)
class Survey:
    """Facts about a data set.

    Parameters
    ----------
    name : str
    cases : int
        Number of labelled cases that are not kept for testing.
    labels_read : int
        Number of their labels that were read.
    shapes : tuple of (Z, Y, X)
    spacing : Spacing or None
        Median of the spacings that are known.
    classes : tuple of ClassFacts
        Facts about each class, without the background.
    annotated : float
        Share of the voxels that are annotated, in [0, 1].
    """

    name: str
    cases: int
    labels_read: int
    shapes: tuple[Zyx, ...]
    spacing: Spacing | None
    classes: tuple[ClassFacts, ...]
    annotated: float

    @property
    def unit(self) -> str:
        """The unit of diameters and edges: um, or voxels without a spacing."""
        return "um" if self.spacing else "voxels"

    @property
    def edges(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel (z, y, x) in `unit`."""
        return self.spacing.zyx if self.spacing else (1.0, 1.0, 1.0)

    @property
    def voxels(self) -> float:
        """Number of annotated voxels of all cases."""
        return self.annotated * sum(math.prod(shape) for shape in self.shapes)

    @property
    def foreground(self) -> float:
        """Share of the annotated voxels that is not background."""
        return sum(each.share for each in self.classes)


def survey(
    datalist: Datalist, on_case: Callable[[int, int], None] | None = None
) -> Survey:
    """Return facts about the labelled cases of a data set.

    Parameters
    ----------
    datalist : Datalist
    on_case : callable, optional
        Function called with the numbers of labels read and to read.

    Raises
    ------
    ConfigError
        If no case is labelled.
    LabelError
        If label values do not fit the classes.
    """
    cases = [c for c in datalist.cases if c.label is not None and c.split != "test"]
    if not cases:
        raise ConfigError(f"{datalist.where}: holds no labelled case to train on")
    images = [case.open_image() for case in cases]
    known = [image.spacing.zyx for image in images if image.spacing is not None]
    spacing = Spacing.of(np.median(known, axis=0).tolist()) if known else None
    edges = spacing.zyx if spacing else (1.0, 1.0, 1.0)
    picked = np.unique(np.linspace(0, len(cases) - 1, MOST_LABELS).round().astype(int))
    counts = np.zeros(256, np.int64)
    sizes: dict[int, list[NDArray[np.float64]]] = {}
    objects: dict[int, int] = {}
    for number, index in enumerate(picked.tolist(), start=1):
        classes_zyx, raw_zyx = _label(cases[index], datalist)
        counts += np.bincount(classes_zyx.ravel(), minlength=256)
        for value in range(1, len(datalist.classes)):
            ids = _objects(classes_zyx == value, raw_zyx, datalist)
            if ids is not None:
                sizes.setdefault(value, []).append(_diameters(ids, edges))
                objects[value] = objects.get(value, 0) + len(np.unique(ids[ids > 0]))
        if on_case is not None:
            on_case(number, len(picked))
    annotated = int(counts[:IGNORE].sum())
    classes = []
    for index, name in enumerate(datalist.classes[1:], start=1):
        measured = np.concatenate(sizes.get(index, [np.zeros(0)]))
        share = float(counts[index] / max(annotated, 1))
        number = objects.get(index, 0)
        classes.append(ClassFacts(name, share, number, _typical(measured)))
    return Survey(
        datalist.name,
        len(cases),
        len(picked),
        tuple(image.shape for image in images),
        spacing,
        tuple(classes),
        annotated / max(int(counts.sum()), 1),
    )


def _label(
    case: Case, datalist: Datalist
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    raw = read_case_label(case, datalist)
    array = raw.read()
    return case_classes(array, datalist, case, raw.name), array


def _objects(
    mask: NDArray[np.bool_], raw: NDArray[np.integer], datalist: Datalist
) -> NDArray[np.integer] | None:
    """Return object ids: those of the label, or connected components of a class."""
    if not mask.any():
        return None
    return label_components(mask) if datalist.labels == "classes" else raw


def _diameters(ids: NDArray[np.integer], edges: Sequence[float]) -> NDArray[np.float64]:
    """Return equivalent diameters; objects at the border only if all touch it."""
    names, voxels = np.unique(ids[ids > 0], return_counts=True)
    touching: set[int] = set()
    for axis in range(3):
        if ids.shape[axis] > 1:
            for end in (0, -1):
                touching |= set(np.unique(ids.take(end, axis)).tolist())
    inner = np.array([name not in touching for name in names.tolist()])
    chosen = voxels[inner] if inner.any() else voxels
    z, y, x = edges
    found: NDArray[np.float64]
    if ids.shape[0] == 1:
        found = 2 * np.sqrt(chosen * (y * x) / math.pi)
    else:
        found = np.cbrt(6 * chosen * (z * y * x) / math.pi)
    return found


def _typical(diameters: NDArray[np.float64]) -> float:
    """Return the diameter at which half of the volume lies in smaller objects.

    This way, small specks count little, however many of them a label has.
    """
    if not len(diameters):
        return math.nan
    rising = np.sort(diameters)
    volume = np.cumsum(rising**3)
    return float(rising[np.searchsorted(volume, volume[-1] / 2)])

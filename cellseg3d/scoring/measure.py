"""Measure the objects of a label file; the numbers come from `cellseg3d.metrics`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.labels import IGNORE
from cellseg3d.metrics.components import label_components, label_pieces
from cellseg3d.metrics.morphometry import Table, measure_objects, summarise_objects
from cellseg3d.metrics.parents import boundary_distance, most_common
from cellseg3d.scoring.evaluate import open_labels, open_values
from cellseg3d.scoring.one_volume import class_name
from cellseg3d.scoring.same_grid import common_spacing

OBJECT = "object"


@dataclass(frozen=True)
class MeasureOptions:
    """What the values of the label file mean, and what to look at beside it.

    Parameters
    ----------
    image : str or None
        Intensities to average.
    classes : tuple of str
        Class names by value.
    class_labels : str or None
        A volume of classes; an object's is the one that most of its voxels have.
    components : bool
        The values are classes; objects are their connected pieces.
    parents : str or None
        A volume of ids of what the objects lie in, such as cells.
    cells : bool
        Parents are the connected pieces of all that is above 0.
    spacing : Spacing or None
        Voxel edges; what the files say counts when None.
    """

    image: str | None = None
    classes: tuple[str, ...] = ()
    class_labels: str | None = None
    components: bool = False
    parents: str | None = None
    cells: bool = False
    spacing: Spacing | None = None


@dataclass(frozen=True)
class Measurement:
    """The objects of one file.

    Parameters
    ----------
    name : str
        The label file.
    spacing : Spacing or None
    intensity_unit : str or None
        None without an image.
    objects : dict of ndarray, each of shape (n,)
        One row an object.
    by_class, by_parent : list of dict
        Summaries; the second is empty without parents.
    """

    name: str
    spacing: Spacing | None
    intensity_unit: str | None
    objects: Table
    by_class: list[dict[str, Any]]
    by_parent: list[dict[str, Any]]


def measure_file(labels: str, options: MeasureOptions | None = None) -> Measurement:
    """Measure every object of a label file.

    Parameters
    ----------
    labels : str
        A file of object ids; of classes with `MeasureOptions.components`.
    options : MeasureOptions, optional

    Raises
    ------
    InputError
        If a file is broken, or shapes or spacings differ.
    """
    chosen = options or MeasureOptions()
    source = open_labels(labels, chosen.spacing)
    image = _companion(source, chosen.image, chosen, intensities=True)
    parents = _parents(source, chosen)
    spacing = chosen.spacing or source.spacing
    for other in (image, parents):
        spacing = spacing or (other.spacing if other else None)
    ids = source
    if chosen.components:
        ids = source.with_array(label_pieces(_annotated(source)))
    table = measure_objects(ids.array, spacing, image.array if image else None)
    found: Table = {"id": table.pop("id")}
    found["class"] = _class_names(ids, source, found["id"], chosen)
    found |= table
    if image is not None:
        found["intensity_unit"] = np.full(len(found["id"]), image.intensity_unit)
    if parents is not None:
        found |= _places_in(parents, ids, found["id"], spacing)
    return Measurement(
        source.name,
        spacing,
        image.intensity_unit if image else None,
        found,
        summarise_objects(found, "class"),
        [] if parents is None else _by_parent(found, parents, spacing),
    )


def _annotated(source: Volume) -> NDArray[Any]:
    """Return the classes of a volume in memory, 0 where it is not annotated."""
    classes = source.read()
    return np.where(classes == IGNORE, 0, classes)


def _companion(
    source: Volume,
    path: str | None,
    options: MeasureOptions,
    *,
    intensities: bool = False,
) -> Volume | None:
    """Open what lies on the grid of the labels, or say that it does not."""
    if path is None:
        return None
    opened = open_values if intensities else open_labels
    other = opened(path, options.spacing)
    common_spacing(other, source, options.spacing)
    return other


def _parents(source: Volume, options: MeasureOptions) -> Volume | None:
    """Return the volume of parent ids, in memory."""
    if options.cells:
        return source.with_array(label_components(_annotated(source) > 0))
    parents = _companion(source, options.parents, options)
    return None if parents is None else parents.with_array(parents.read())


def _class_names(
    ids: Volume, source: Volume, objects: NDArray[Any], options: MeasureOptions
) -> NDArray[Any]:
    """Return the class of each object by name; ``"object"`` when nothing says it."""
    classes = source if options.components else None
    if options.class_labels is not None:
        classes = _companion(source, options.class_labels, options)
    if classes is None:
        return np.full(len(objects), OBJECT)
    values, _ = most_common(ids.array, classes.array, objects, ignore=(0, IGNORE))
    found, index = np.unique(values, return_inverse=True)
    names = np.array([class_name(int(value), options.classes) for value in found])
    return names[index] if len(found) else np.full(0, OBJECT)


def _places_in(
    parents: Volume, ids: Volume, objects: NDArray[Any], spacing: Spacing | None
) -> Table:
    """Return each object's parent, how much of it lies in there, and how deep."""
    values, shares = most_common(ids.array, parents.array, objects)
    distance = np.full(len(objects), np.nan)
    if spacing is not None:
        distance = boundary_distance(ids.array, parents.read(), objects, spacing)
    alone = values == 0
    # An object that sticks out of its parent reaches the boundary, wherever it ends.
    distance[(shares < 1) & ~np.isnan(distance)] = 0.0
    distance[alone | np.isinf(distance)] = np.nan
    return {
        "parent": values,
        "parent_share": shares,
        "parent_boundary_distance_um": distance,
    }


def _by_parent(
    table: Table, parents: Volume, spacing: Spacing | None
) -> list[dict[str, Any]]:
    """Return, for each parent and class, the objects in it and their share of it."""
    sizes = measure_objects(parents.array, spacing)
    volume = dict(zip(sizes["id"].tolist(), sizes["voxels"].tolist(), strict=True))
    rows = []
    for name in np.unique(table["class"]).tolist():
        chosen = {key: column[table["class"] == name] for key, column in table.items()}
        for row in summarise_objects(chosen, "parent"):
            own = volume.get(row["parent"], 0)
            inside = row["n"] * row["voxels_mean"]
            share = inside / own if own else float("nan")
            rows.append(
                {"parent": row.pop("parent"), "class": name, **row}
                | {"parent_voxels": own, "share_of_parent": share}
            )
    return sorted(rows, key=lambda row: (row["parent"], row["class"]))

"""Measure the objects of a label file, with the functions of `cellseg3d.metrics`."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.ignore import IGNORE, no_object
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import case_stem
from cellseg3d.io.check import open_input
from cellseg3d.metrics.components import label_components, label_pieces
from cellseg3d.metrics.morphometry import Table, measure_objects, summarise_objects
from cellseg3d.metrics.parents import boundary_distance, most_common
from cellseg3d.scoring.evaluate import open_labels
from cellseg3d.scoring.meaning import meaning_of
from cellseg3d.scoring.one_volume import class_name
from cellseg3d.scoring.same_grid import common_spacing

logger = logging.getLogger(__name__)

OBJECT = "object"


@dataclass(frozen=True)
class MeasureOptions:
    """What the values of a label file mean, and which other files to use.

    Parameters
    ----------
    image : str or None
        File of intensities, which are averaged in each object.
    channel : int, str or None
        The number or name of the channel of `image`, if it has several.
    classes : tuple of str
        Class names by value.
    class_labels : str or None
        File of classes. The class of an object is that of most of its voxels.
    components : bool
        Whether the values are classes, whose connected pieces are the objects.
    parents : str or None
        File of ids of larger objects, such as cells, that contain the objects.
    cells : bool
        Whether the parents are the connected pieces of all voxels above 0.
    spacing : Spacing or None
        Voxel edges; those in the files when None.
    """

    image: str | None = None
    channel: int | str | None = None
    classes: tuple[str, ...] = ()
    class_labels: str | None = None
    components: bool = False
    parents: str | None = None
    cells: bool = False
    spacing: Spacing | None = None


@dataclass(frozen=True)
class Measurement:
    """The measured objects of one file.

    Parameters
    ----------
    name : str
        The label file.
    spacing : Spacing or None
        Voxel edges; None if unknown.
    intensity_unit : str or None
        Unit of the intensities; None without an image.
    objects : dict of ndarray, each of shape (n,)
        Measurements by name, with one entry for each object.
    by_class, by_parent : list of dict
        Summaries of the objects of each class and of each parent; the second is empty
        without parents.
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
        A file of object ids or, with `MeasureOptions.components`, of classes.
    options : MeasureOptions, optional
        What the values mean, and which other files to use.

    Raises
    ------
    InputError
        If a file is damaged, or if shapes or spacings differ.
    """
    chosen = _by_record(labels, options or MeasureOptions())
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
    if said := no_object(max(found["id"].tolist(), default=0)):
        logger.warning("%s: %s", source.name, said)
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


def _by_record(labels: str, options: MeasureOptions) -> MeasureOptions:
    """Return the options with the class names of the prediction that wrote the file."""
    meaning = meaning_of(labels)
    if meaning is None or not case_stem(labels).endswith("_labels"):
        return options
    if options.components:
        return replace(options, classes=options.classes or meaning.classes)
    logger.warning(
        "%s: its values are classes (%s) that %s predicts, and all voxels of a class "
        "are measured as one object; say `components` to measure its pieces",
        labels,
        ", ".join(meaning.classes[1:]),
        meaning.model,
    )
    return replace(options, classes=options.classes or meaning.classes)


def _annotated(source: Volume) -> NDArray[Any]:
    """Return the classes of a volume, read into memory; 0 where not annotated."""
    classes = source.read()
    return np.where(classes == IGNORE, 0, classes)


def _companion(
    source: Volume,
    path: str | None,
    options: MeasureOptions,
    *,
    intensities: bool = False,
) -> Volume | None:
    """Open a file that belongs to the labels; refuse another shape or spacing."""
    if path is None:
        return None
    if intensities:
        other = open_input(path, spacing=options.spacing, channel=options.channel)
    else:
        other = open_labels(path, options.spacing)
    common_spacing(other, source, options.spacing)
    return other


def _parents(source: Volume, options: MeasureOptions) -> Volume | None:
    """Return the volume of parent ids, read into memory; None without parents."""
    if options.cells:
        return source.with_array(label_components(_annotated(source) > 0))
    parents = _companion(source, options.parents, options)
    return None if parents is None else parents.with_array(parents.read())


def _class_names(
    ids: Volume, source: Volume, objects: NDArray[Any], options: MeasureOptions
) -> NDArray[Any]:
    """Return the class name of each object; ``"object"`` if classes are unknown."""
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
    """Return each object's parent, its share in the parent, and its distance inside."""
    values, shares = most_common(ids.array, parents.array, objects)
    distance = np.full(len(objects), np.nan)
    if spacing is not None:
        distance = boundary_distance(ids.array, parents.read(), objects, spacing)
    alone = values == 0
    # An object that is partly outside of its parent touches the parent's boundary.
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
    """Return a summary for each parent and class, with the share of the parent."""
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

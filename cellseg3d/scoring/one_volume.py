"""Score one label volume against its truth, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.errors import LabelError, SpacingError
from cellseg3d.core.ignore import IGNORE, NO_OBJECT, no_object
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.metrics.components import label_components
from cellseg3d.metrics.contingency import (
    Contingency,
    count_slices,
    total,
)
from cellseg3d.metrics.object_scores import (
    ObjectMatch,
    average_precision,
    object_scores,
    recall_by_size,
)
from cellseg3d.metrics.overlap import class_scores, voxel_accuracy
from cellseg3d.metrics.partition import partition_scores
from cellseg3d.metrics.surface import surface_distances
from cellseg3d.scoring.meaning import Meaning, check_shared, refuse_many
from cellseg3d.scoring.same_grid import common_spacing

FOREGROUND = "foreground"
_LISTED = 8
Scores = dict[str, float | int]
Members = dict[str, list[int] | None]


@dataclass(frozen=True)
class ScoreOptions:
    """What to score, and what the values in the files mean.

    Parameters
    ----------
    classes : tuple of str
        Class names by value, background first. A value without a name is called by its
        number.
    truth_map, prediction_map : mapping of int to int, or None
        The class of each value in a file; values that are not named stay unchanged.
    ids : bool
        Whether the values are object ids. Voxel scores then compare everything above 0,
        object scores compare the ids, and 255 is an object.
    components : bool
        Whether to score the connected components of each class as objects.
    surface : bool
        Whether to measure distances between the surfaces of each class, in um.
    probs : str or None
        A file of probabilities to score, or a folder of NAME_prob_CLASS files.
    tolerance_um : float or None
        Tolerance of the NSD, in um; the longest voxel edge when None.
    spacing : Spacing or None
        Voxel edges; those in the files when None.
    meaning : Meaning or None
        What the prediction's model learned. It tells what the truth's values mean if
        `truth_map` is None.
    folders : {"auto", "images", "slices"}
        What the PNG or TIFF images in a folder are: a volume each, or the slices of
        one; as for `cellseg3d.io.listing.content_of`.

    Examples
    --------
    >>> from cellseg3d import ScoreOptions
    >>> ScoreOptions(classes=("background", "nucleus"), components=True).classes[1]
    'nucleus'
    """

    classes: tuple[str, ...] = ()
    truth_map: Mapping[int, int] | None = None
    prediction_map: Mapping[int, int] | None = None
    ids: bool = False
    components: bool = False
    surface: bool = False
    probs: str | None = None
    tolerance_um: float | None = None
    spacing: Spacing | None = None
    meaning: Meaning | None = None
    folders: str = "auto"

    @property
    def told(self) -> bool:
        """Whether the caller says what the values are."""
        maps = (self.truth_map, self.prediction_map)
        return bool(self.classes) or any(each is not None for each in maps)

    @property
    def ignored(self) -> int | None:
        """The truth value that is left out of scores; None if 255 is an object."""
        return None if self.ids else IGNORE


@dataclass(frozen=True)
class ScoredVolume:
    """The scores of one volume.

    Parameters
    ----------
    accuracy : float
        Share of annotated voxels with the right class; NaN where the truth annotates
        only some of the classes.
    annotated_voxels : int
        Number of annotated voxels.
    classes : dict
        Voxel scores (and distances) by class name.
    objects : dict
        Object scores by class name; empty unless asked for.
    curves : dict
        ROC and reliability by class name; empty without probabilities.
    notes : tuple of str
        What was assumed, in sentences.
    truth_map : mapping of int to int or None
        The class of each value in the truth, as it was read.
    unused : frozenset of (str, int)
        The values that a map of the user renames and that no voxel holds, each with
        the name of its map.
    """

    accuracy: float
    annotated_voxels: int
    classes: dict[str, Scores]
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    truth_map: Mapping[int, int] | None = None
    unused: frozenset[tuple[str, int]] = frozenset()


def score_volume(
    prediction: Volume,
    truth: Volume,
    options: ScoreOptions,
    only: Sequence[str] | None = None,
) -> ScoredVolume:
    """Score one volume against its truth.

    Parameters
    ----------
    prediction, truth : Volume of integers, shape (Z, Y, X)
        Volumes of the same shape, and of the same spacing if both are known. They are
        read a few slices at a time; only distances and components need the whole
        volumes in memory.
    options : ScoreOptions
        What to score, and what the values mean.
    only : sequence of str, optional
        Names of the classes that the truth annotates; when None, every class that
        occurs or has a name is scored.

    Raises
    ------
    LabelError
        If shapes differ, or if values are not classes.
    SpacingError
        If spacings differ, or if distances are asked for and the spacing is unknown.
    """
    spacing = common_spacing(prediction, truth, options.spacing)
    if options.surface and spacing is None:
        message = f"{prediction.name}: has no spacing; give `spacing_um`"
        raise SpacingError(message)
    raw = count_slices(prediction.array, truth.array)
    notes: tuple[str, ...] = ()
    unused = _unused_of_maps(total(raw), options)
    if not options.ids:
        if options.meaning is None:
            check_values(total(raw), prediction, truth, options)
        options, notes = _understood(total(raw), prediction, truth, options)
        if options.meaning is not None:
            check_values(total(raw), prediction, truth, options)
    else:
        notes = _of_no_object(total(raw), prediction, truth, options)
    tables = [each.renamed(options.prediction_map, options.truth_map) for each in raw]
    whole = total(tables)
    members = scored_classes(whole, options, only)
    classes = {
        name: class_scores(tables, values, options.ignored)
        for name, values in members.items()
    }
    objects = {FOREGROUND: _object_scores(whole, spacing)} if options.ids else {}
    if options.surface or (options.components and not options.ids):
        arrays = [
            renamed(prediction, options.prediction_map),
            renamed(truth, options.truth_map),
        ]
        for name, values in members.items():
            found = _shape_scores(arrays, values, spacing, options)
            classes[name] |= found.get("surface", {})
            if "objects" in found:
                objects[name] = found["objects"]
    # If the truth annotates only some classes, accuracy over all classes is unknown.
    partial = only is not None and not set(options.classes[1:]) <= set(only)
    return ScoredVolume(
        float("nan") if partial else _accuracy(whole, options),
        whole.without_truth(options.ignored).voxels,
        classes,
        objects,
        notes=notes,
        truth_map=options.truth_map,
        unused=unused,
    )


def _unused_of_maps(
    raw: Contingency, options: ScoreOptions
) -> frozenset[tuple[str, int]]:
    """Return the values that a map of the user renames and that no voxel holds."""
    sides = (
        ("truth_map", options.truth_map, raw.true_sizes()[0]),
        ("prediction_map", options.prediction_map, raw.predicted_sizes()[0]),
    )
    return frozenset(
        (word, value)
        for word, renaming, found in sides
        for value in set(renaming or {}) - set(found.tolist())
    )


def _of_no_object(
    raw: Contingency, prediction: Volume, truth: Volume, options: ScoreOptions
) -> tuple[str, ...]:
    """Return a sentence for each side with the id that CREMI writes for no object."""
    sides = (
        (prediction, raw.predicted_sizes()[0], "prediction_map"),
        (truth, raw.true_sizes()[0], "truth_map"),
    )
    return tuple(
        f"{volume.name}: {no_object(NO_OBJECT)}, or say what it is with `{word}`"
        for volume, found, word in sides
        if NO_OBJECT in set(found.tolist()) - set(getattr(options, word) or {})
    )


def _understood(
    raw: Contingency, prediction: Volume, truth: Volume, options: ScoreOptions
) -> tuple[ScoreOptions, tuple[str, ...]]:
    """Return the options with the truth's label map, and a note about it.

    Raises
    ------
    LabelError
        If the values of the two mean different things.
    """
    if options.truth_map is not None or options.prediction_map is not None:
        maps = (options.truth_map or {}, options.prediction_map or {})
        if len(_unused_of_maps(raw, options)) < sum(map(len, maps)):
            return options, ()
        # Maps that rename nothing do not say what the values mean.
        options = replace(options, truth_map=None, prediction_map=None)
    true = raw.true_sizes()[0].tolist()
    if options.meaning is None:
        if not options.classes:
            predicted = raw.predicted_sizes()[0].tolist()
            refuse_many(predicted, prediction.name)
            refuse_many(true, truth.name)
            check_shared(predicted, true, prediction.name, truth.name)
        return options, ()
    renaming, note = options.meaning.truth_map(true, truth.name)
    return replace(options, truth_map=renaming), (note,) if note else ()


def check_values(
    raw: Contingency, prediction: Volume, truth: Volume, options: ScoreOptions
) -> None:
    """Refuse values that cannot be classes.

    Raises
    ------
    LabelError
        If a value is negative or above 255, if the prediction holds 255, or if the
        truth holds only 0 and 255.
    """
    sides = (
        (prediction.name, raw.predicted_sizes(), options.prediction_map),
        (truth.name, raw.true_sizes(), options.truth_map),
    )
    for name, (found, counts), renaming in sides:
        strange = [
            f"{value} ({count} voxels)"
            for value, count in zip(found.tolist(), counts.tolist(), strict=True)
            if not 0 <= (renaming or {}).get(value, value) <= IGNORE
        ]
        if strange:
            more = f" and {len(strange) - _LISTED} more" * (len(strange) > _LISTED)
            message = (
                f"{name}: values {', '.join(strange[:_LISTED])}{more} are not classes "
                "(0 to 254); add `objects` if they are object ids, or `truth_map` "
                "OLD:NEW"
            )
            raise LabelError(message)
    _refuse_255(raw, prediction, truth, options)


def _refuse_255(
    raw: Contingency, prediction: Volume, truth: Volume, options: ScoreOptions
) -> None:
    if IGNORE in raw.predicted and IGNORE not in (options.prediction_map or {}):
        message = (
            f"{prediction.name}: holds 255, which is no class; pass "
            "`prediction_map` 255:1 if it is the object"
        )
        raise LabelError(message)
    true = set(raw.true.tolist())
    if true == {0, IGNORE} and IGNORE not in (options.truth_map or {}):
        message = (
            f"{truth.name}: holds only 0 and 255, and 255 means 'not annotated'; pass "
            "`truth_map` 255:1 if it is the object"
        )
        raise LabelError(message)


def scored_classes(
    table: Contingency, options: ScoreOptions, only: Sequence[str] | None = None
) -> Members:
    """Return the values of each class to score; None means every value above 0."""
    if options.ids:
        return {FOREGROUND: None}
    annotated = table.without_truth(IGNORE)
    found = set(annotated.predicted.tolist()) | set(annotated.true.tolist())
    values = sorted((found | set(range(len(options.classes)))) - {0, IGNORE})
    members: Members = {class_name(value, options.classes): [value] for value in values}
    if only is not None:
        return {name: members[name] for name in only if name in members}
    if len(members) > 1:
        members.setdefault(FOREGROUND, None)
    return members


def class_name(value: int, classes: Sequence[str]) -> str:
    """Return the name of a class in tables; its value if it has no name."""
    return classes[value] if 0 <= value < len(classes) else str(value)


def _accuracy(table: Contingency, options: ScoreOptions) -> float:
    """Return voxel accuracy; ids are compared as foreground and background."""
    if not options.ids:
        return voxel_accuracy(table)
    flat = Contingency(
        (table.predicted > 0).astype(np.int64),
        (table.true > 0).astype(np.int64),
        table.count,
    )
    return voxel_accuracy(flat, None)


def _shape_scores(
    arrays: Sequence[NDArray[Any]],
    values: Sequence[int] | None,
    spacing: Spacing | None,
    options: ScoreOptions,
) -> dict[str, dict[str, Any]]:
    """Return the scores that need whole masks: surface distances and components."""
    annotated = None if options.ids else arrays[1] != IGNORE
    masks = [
        array > 0 if values is None else np.isin(array, values) for array in arrays
    ]
    if annotated is not None:
        masks = [mask & annotated for mask in masks]
    found: dict[str, dict[str, Any]] = {}
    if options.surface:
        distances = surface_distances(masks[0], masks[1], spacing, annotated)
        tolerance = options.tolerance_um
        if tolerance is None:
            tolerance = max(spacing.zyx) if spacing else 0.0
        found["surface"] = {**distances.scores(tolerance), "tolerance_um": tolerance}
    if options.components and not options.ids:
        pair: list[ArrayLike] = [label_components(mask) for mask in masks]
        table = total(count_slices(pair[0], pair[1]))
        found["objects"] = _object_scores(table, spacing)
    return found


def _object_scores(table: Contingency, spacing: Spacing | None) -> dict[str, Any]:
    """Return object scores from counts of ids, with AP by IoU and recall by size."""
    match = ObjectMatch.of(table)
    voxel = spacing.voxel_volume_um3 if spacing else 1.0
    return {
        **object_scores(match),
        **partition_scores(table),
        "ap_by_iou": {f"{iou:.2f}": ap for iou, ap in average_precision(match)},
        "recall_by_size": recall_by_size(match, voxel_volume_um3=voxel),
        "size_unit": "um^3" if spacing else "voxels",
    }


def renamed(volume: Volume, names: Mapping[int, int] | None) -> NDArray[Any]:
    """Return the values of a label volume, with some of them replaced."""
    array = volume.read()
    if not names:
        return array
    renamed = array.astype(np.int64)
    for old, new in names.items():
        renamed[array == old] = new
    return renamed

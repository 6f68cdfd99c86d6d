"""Read the images and labels of cases into arrays and check that they fit together."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.axes import AXES
from cellseg3d.core.errors import LabelError, SpacingError
from cellseg3d.core.ignore import IGNORE, no_object
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.steps import say
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.array_cache import ArrayCache, Arrays
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import load_datalist
from cellseg3d.datasets.intensity import (
    Amount,
    IntensityScale,
    Scaling,
    limits_in_words,
)
from cellseg3d.datasets.labels import class_labels, whole_numbers
from cellseg3d.datasets.resampling import nearest_on, onto_spacing
from cellseg3d.datasets.splits import (
    Fold,
    check_duplicates,
    content_hash,
    training_fold,
)
from cellseg3d.datasets.targets import LabelTarget, object_ids
from cellseg3d.io.registry import list_volumes, read_labels, read_volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedCase:
    """The arrays of a case, in memory or memory-mapped.

    Parameters
    ----------
    name : str
        Name of the case.
    image : ndarray of the file's dtype, shape (Z, Y, X) or (C, Z, Y, X)
        Raw intensities.
    label : ndarray of uint8, shape (Z, Y, X), or None
        Class indices; 255 where not annotated.
    scale : IntensityScale
        How a sample of the image is scaled when it is cut.
    offset, factor : float, or tuple of float with one number for each channel
        What `scale` measured for this image.
    spacing : Spacing or None
        Voxel edges of image and label, in um.
    content : str
        Hash of the image's voxels as they were read.
    warnings : tuple of str
        Sentences that every report repeats.
    annotated : tuple of bool or None
        Whether the label annotates each class; None means all classes.
    objects : ndarray of unsigned integers, shape (Z, Y, X), or None
        Object ids without 255, for a target of links: links have a direction, so they
        are computed again after each augmentation. None for other targets.
    target : LabelTarget
        The kind of target that `label` holds; links are computed from `objects` again.
    """

    name: str
    image: NDArray[Any]
    label: NDArray[np.uint8] | None
    scale: IntensityScale
    offset: Amount
    factor: Amount
    spacing: Spacing | None
    content: str
    warnings: tuple[str, ...] = ()
    annotated: tuple[bool, ...] | None = None
    objects: NDArray[Any] | None = None
    target: LabelTarget = field(default_factory=LabelTarget)

    @property
    def channels(self) -> int:
        """The number of channels of the image."""
        return 1 if self.image.ndim == 3 else int(self.image.shape[0])


@dataclass(frozen=True)
class LoadedFold:
    """A fold whose cases are read.

    Parameters
    ----------
    datalist : Datalist
        The data set, with the classes that the network learns.
    fold : Fold
        The cases of each side.
    training, validation : tuple of LoadedCase
        The arrays of each side.
    warnings : tuple of str
        The warnings of the fold and of every case; every report repeats them.
    """

    datalist: Datalist
    fold: Fold
    training: tuple[LoadedCase, ...]
    validation: tuple[LoadedCase, ...]
    warnings: tuple[str, ...]

    @property
    def hashes(self) -> dict[str, str]:
        """The content hash of each image, by case name."""
        return {case.name: case.content for case in self.training + self.validation}

    @property
    def limits(self) -> dict[str, list[float]]:
        """The raw intensities that become -1 and 1, by case name."""
        return {
            case.name: list(Scaling(case.offset, case.factor).limits)
            for case in self.training + self.validation
        }

    @property
    def label_hashes(self) -> dict[str, str]:
        """The content hash of each label as the network learns it, by case name."""
        return {
            case.name: content_hash(np.asarray(case.label))
            for case in self.training + self.validation
            if case.label is not None
        }


def load_fold(  # noqa: PLR0913 - each is a key of a config
    dataset: str | Path | Datalist,
    fold: int | str | None = 0,
    *,
    validation: str | Sequence[str] = "auto",
    folds: int | None = None,
    seed: int = 0,
    intensity: IntensityScale | dict[str, Any] | None = None,
    spacing_um: Sequence[float] | None = None,
    cache_dir: str | Path | None = None,
    target: LabelTarget | Mapping[str, Any] | None = None,
) -> LoadedFold:
    """Read the volumes of one fold of a data set.

    Parameters
    ----------
    dataset : str, Path or Datalist
        A datalist file or a folder.
    fold, validation, folds, seed
        As for `cellseg3d.datasets.splits.training_fold`.
    intensity : IntensityScale or dict, optional
        Percentiles 0.5 and 99.5 of each volume when None.
    spacing_um, cache_dir
        As for `load_cases`.
    target : LabelTarget or dict, optional
        What the network learns from the labels; their classes when None.

    Raises
    ------
    ConfigError
        If the fold does not exist, or if two images of the same content are on
        different sides.
    InputError
        If a file cannot be used.
    """
    datalist = dataset if isinstance(dataset, Datalist) else load_datalist(dataset)
    datalist = datalist.aimed_at(target)
    chosen = training_fold(
        datalist, fold, validation=validation, folds=folds, seed=seed
    )
    training, held = (
        load_cases(
            side, datalist, intensity, spacing_um=spacing_um, cache_dir=cache_dir
        )
        for side in (chosen.training, chosen.validation)
    )
    hashes = {case.name: case.content for case in (*training, *held)}
    chosen = check_duplicates(chosen, hashes, allow=datalist.allow_shared_groups)
    notes = [note for case in (*training, *held) for note in case.warnings]
    warnings = (*chosen.warnings, *notes)
    for warning in warnings:
        logger.warning(warning)
    found = LoadedFold(datalist, chosen, tuple(training), tuple(held), warnings)
    say("intensities that become -1 and 1: %s", _listed(found.limits))
    return found


def _listed(limits: Mapping[str, Sequence[float]]) -> str:
    """Return the limits of the first volumes in words."""
    some = [f"{name} {limits_in_words(own, 'and')}" for name, own in limits.items()]
    return "; ".join(some[:3]) + "; ..." * (len(some) > 3)


def load_cases(
    cases: Sequence[Case],
    datalist: Datalist,
    intensity: IntensityScale | dict[str, Any] | None = None,
    *,
    spacing_um: Sequence[float] | None = None,
    cache_dir: str | Path | None = None,
) -> list[LoadedCase]:
    """Read cases, check each image against its label, and measure its intensity.

    Parameters
    ----------
    cases : sequence of Case
        Cases of `datalist`.
    datalist : Datalist
        The data set, which says what the label values mean.
    intensity : IntensityScale or dict, optional
        How intensities are scaled; by percentiles 0.5 and 99.5 of each volume when
        None.
    spacing_um : sequence of float, optional
        Voxel edges (z, y, x) to resample to, in um: images linearly, labels to the
        nearest voxel. The files' spacing is kept when None.
    cache_dir : str or Path, optional
        Folder that keeps the decoded arrays, which are then memory-mapped from there.

    Raises
    ------
    LabelError
        If a label does not fit its image or the classes.
    SpacingError
        If image and label state different spacings, or `spacing_um` is given and the
        spacing of a volume is unknown.
    InputError
        If a file cannot be used.
    """
    scale = IntensityScale.parse(intensity or IntensityScale())
    target = None if spacing_um is None else Spacing.of(spacing_um)
    cache = None if cache_dir is None else ArrayCache(Path(cache_dir))
    return [_load(case, datalist, scale, target, cache) for case in cases]


def read_case_label(case: Case, datalist: Datalist) -> Volume:
    """Return a case's label with the values of its file: class values or object ids.

    A folder of masks becomes one volume of ids; the first mask by name gets id 1.

    Raises
    ------
    LabelError
        If the case has no label, or if masks of one folder differ in shape.
    """
    if case.label is None:
        raise LabelError(f"{case.name}: has no label; add one to the datalist")
    if datalist.labels == "masks":
        return _read_masks(Path(case.label))
    return read_labels(case.label, read_as=case.read_as)


def case_classes(
    values: NDArray[Any], datalist: Datalist, case: Case, name: str
) -> NDArray[np.uint8]:
    """Return the class indices of a case's label; 255 where it is not annotated.

    Parameters
    ----------
    values : ndarray of integers, shape (Z, Y, X)
        The values that `read_case_label` has read.
    datalist : Datalist
        The data set, which says what the values mean.
    case : Case
        The case, which says which slices are annotated.
    name : str
        The file's name, for messages.

    Raises
    ------
    LabelError
        If a value has no class, or if an annotated slice does not exist.
    """
    return only_annotated(class_labels(values, datalist, name), case, name)


def only_annotated(values: NDArray[Any], case: Case, name: str) -> NDArray[Any]:
    """Return labels with 255 in the slices that the case does not annotate."""
    slices = case.annotated_slices
    if slices is None:
        return values
    depth = len(values)
    kept = np.zeros(depth, np.bool_)
    if isinstance(slices, str):
        seen = (values > 0) & (values != IGNORE)
        kept = seen.any(axis=(1, 2))
    elif max(slices) >= depth:
        message = (
            f"{name}: has the slices 0 to {depth - 1}, but `annotated_slices` names "
            f"slice {max(slices)}; correct it"
        )
        raise LabelError(message)
    else:
        kept[list(slices)] = True
    if kept.all():
        return values
    unseen = values.copy()
    unseen[~kept] = IGNORE
    return unseen


def check_pair(image: Volume, label: Volume, case: Case) -> None:
    """Refuse a label whose shape, spacing or affine differs from its image's.

    Raises
    ------
    LabelError
        If the shapes differ.
    SpacingError
        If both files state a spacing, or an orientation, and they differ.
    """
    if image.shape != label.shape:
        message = (
            f"{label.name}: label shape is {label.shape} (z, y, x), and image "
            f"{image.name} has {image.shape}{_transposed(image.shape, label.shape)}"
        )
        raise LabelError(message)
    one, two = image.spacing, label.spacing
    if case.spacing is None and one and two and not one.is_close(two):
        message = (
            f"{label.name}: spacing is {two}, and image {image.name} has {one}; "
            "correct the wrong file, or give spacing_um in the datalist"
        )
        raise SpacingError(message)
    if image.affine_mm is None or label.affine_mm is None:
        return
    tolerance = 0.5 * float(np.abs(image.affine_mm[:3, :3]).max(axis=0).min())
    if not np.allclose(image.affine_mm, label.affine_mm, rtol=1e-3, atol=tolerance):
        message = (
            f"{label.name}: its affine places it elsewhere than image {image.name}; "
            "resample the label onto the image"
        )
        raise SpacingError(message)


def _load(
    case: Case,
    datalist: Datalist,
    scale: IntensityScale,
    target: Spacing | None,
    cache: ArrayCache | None,
) -> LoadedCase:
    arrays = None if cache is None else cache.find(case, datalist, target)
    if arrays is None:
        arrays = _read(case, datalist, target)
        if cache is not None:
            arrays = cache.keep(case, datalist, target, arrays)
    image, label, facts, objects = arrays
    scaling = scale.scaling_of(Volume(image, provenance={"path": case.image}))
    notes = list(facts["warnings"])
    if scaling.note and not any("every voxel" in note for note in notes):
        notes.append(f"{case.image}: {scaling.note}")
    lengths = facts["spacing_um"]
    return LoadedCase(
        name=case.name,
        image=image,
        label=label,
        scale=scale,
        offset=scaling.offset,
        factor=scaling.factor,
        spacing=Spacing.of(lengths) if lengths else None,
        content=str(facts["content"]),
        warnings=tuple(notes),
        annotated=_annotated(case, datalist),
        objects=objects,
        target=datalist.target,
    )


def _read(case: Case, datalist: Datalist, target: Spacing | None) -> Arrays:
    volume = read_volume(case.image, **case.opening)
    volume = replace(volume, spacing=case.spacing or volume.spacing)
    image, spacing = _plain(volume.read()), volume.spacing
    content = content_hash(image)
    values: NDArray[Any] | None = None
    odd: list[str] = []
    if case.label is not None:
        raw = read_case_label(case, datalist)
        if datalist.labels == "objects" and (said := no_object(int(raw.read().max()))):
            odd.append(f"{raw.name}: {said}")
        check_pair(volume, raw, case)
        values = _values(raw, datalist, case)
    if target is not None:
        seen = onto_spacing(replace(volume, array=image), target)
        image, spacing = seen.read(), seen.spacing
        every = Roi.whole(seen.shape).slices
        values = None if values is None else nearest_on(values, seen.shape)[every]
    label, objects = values, None
    if values is not None and datalist.target.of_objects:
        label = _target_label(values, datalist.target, spacing)
        objects = values if datalist.target.has_direction else None
    facts: dict[str, Any] = {
        "content": content,
        "warnings": [*_oddities(case, image, label), *odd],
        "spacing_um": list(spacing.zyx) if spacing else None,
    }
    return image, label, facts, objects


def _target_label(
    ids: NDArray[Any], target: LabelTarget, spacing: Spacing | None
) -> NDArray[np.uint8]:
    """Return the target of object ids, with 255 in slices that are not annotated.

    Without further care, objects would have a border all over a slice whose neighbour
    is not annotated. Slices that are not annotated are therefore replaced by the
    nearest annotated one while the target is computed.
    """
    unseen = (ids == IGNORE).all(axis=(1, 2))
    if target.has_direction or not unseen.any() or unseen.all():
        return target.label_of(ids, spacing)
    seen = np.flatnonzero(~unseen)
    nearest = [int(seen[np.abs(seen - z).argmin()]) for z in range(len(ids))]
    label = target.label_of(np.ascontiguousarray(ids[nearest]), spacing)
    label[unseen] = IGNORE
    return label


def _values(raw: Volume, datalist: Datalist, case: Case) -> NDArray[Any]:
    """Return class indices, or object ids if the target is made from them."""
    if datalist.target.of_objects:
        ids = object_ids(whole_numbers(raw.read(), raw.name), raw.name)
        return only_annotated(ids, case, raw.name)
    return case_classes(raw.read(), datalist, case, raw.name)


def _annotated(case: Case, datalist: Datalist) -> tuple[bool, ...] | None:
    if case.annotated is None:
        return None
    return tuple(name in case.annotated for name in datalist.classes)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in this machine's byte order, C-contiguous; values unchanged."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _oddities(
    case: Case, image: NDArray[Any], label: NDArray[np.uint8] | None
) -> list[str]:
    notes = []
    for number, part in enumerate(image if image.ndim == 4 else [image]):
        if part.min() == part.max():
            where = f" of channel {number}" if image.ndim == 4 else ""
            notes.append(f"{case.image}: every voxel{where} is {part.flat[0]}")
    if label is None:
        return notes
    annotated = label != IGNORE
    if not annotated.any():
        notes.append(f"{case.label}: nothing is annotated (all voxels are 255)")
    elif not label[annotated].any():
        notes.append(f"{case.label}: holds background only")
    return notes


def _read_masks(folder: Path) -> Volume:
    ids: NDArray[np.uint16] | None = None
    files = list_volumes(folder)
    for number, path in enumerate(files, start=1):
        mask = read_labels(path)
        if ids is None:
            ids = np.zeros(mask.shape, np.uint16)
        if mask.shape != ids.shape:
            message = (
                f"{path}: mask shape is {mask.shape}, and {files[0]} has {ids.shape}; "
                "masks of one image need one shape"
            )
            raise LabelError(message)
        ids[mask.read() > 0] = number
    if ids is None:
        message = f"{folder}: holds no masks; expected one image per object"
        raise LabelError(message)
    return Volume(ids, provenance={"path": str(folder), "format": "masks"})


def _transposed(image: Sequence[int], label: Sequence[int]) -> str:
    fitting = [
        "".join(AXES[i] for i in order)
        for order in itertools.permutations(range(3))
        if tuple(label[i] for i in order) == tuple(image)
    ]
    if fitting:
        turned = " or ".join(fitting)
        return f"; transpose the label: it fits if its axes are read as {turned}"
    return "; choose the label that belongs to the image, or crop both equally"

"""Check one case: its image, its label, and whether they fit together."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import CellSegError, LabelError, NonFiniteError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.memory import check_memory
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.intensity import IntensityScale
from cellseg3d.datasets.labels import value_counts, whole_numbers
from cellseg3d.datasets.splits import content_hash
from cellseg3d.datasets.volumes import case_classes, check_pair, read_case_label
from cellseg3d.datasets.voxel_sample import sample_voxels
from cellseg3d.doctor.findings import (
    BINARY_LABEL,
    CONSTANT,
    EMPTY_LABEL,
    FLOAT_LABEL,
    PARTLY,
    TRANSPOSED,
    Finding,
    from_error,
    parted,
)
from cellseg3d.doctor.meaning import pieces_of, seems_inverted
from cellseg3d.doctor.orientation import fitting_orders, guess_shift, guess_turn
from cellseg3d.io.check import check_volume
from cellseg3d.io.damage import reading
from cellseg3d.io.registry import list_volumes, open_volume

# A label may be annotated only in part if it has at least LEAST_SLICES slices, if no
# more than the share FEW_SLICES of them hold objects, and if those beside an empty
# slice hold at least ABRUPT times as many voxels of objects as the mean.
LEAST_SLICES, FEW_SLICES, ABRUPT = 8, 0.25, 0.8
_CONSTANT = "every voxel is"


@dataclass
class CaseReport:
    """What one case contains, and what is wrong with it.

    Parameters
    ----------
    name : str
        Name of the case.
    findings : list of Finding
        What is wrong with the case.
    content, label_content : str
        Hashes of the voxels of image and label; empty when they cannot be read.
    slices : list of str
        Hash of each z slice of the image that is not constant.
    values : dict of int to int
        Number of voxels of each value in the label file, for labels of classes.
    classes : dict of int to int
        Number of voxels of each class index; index 255 is "not annotated".
    intensity : list of float
        Percentiles 1, 50 and 99 of the image, or of its first channel; empty when it
        cannot be read.
    channels : list of str
        The names of the image's channels, empty where they are unknown.
    spacing_um : list of float
        Voxel edges (z, y, x); empty when unknown.
    scaled_from : list of float
        The raw intensities that become -1 and 1 by default, a pair for each channel;
        empty when unread.
    pieces : dict of int to int
        In how many pieces each label value lies, for labels of classes.
    inverted : bool
        Whether a label of one class seems to be 0 in the objects and 1 around them.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    content: str = ""
    label_content: str = ""
    slices: list[str] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    classes: dict[int, int] = field(default_factory=dict)
    intensity: list[float] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    spacing_um: list[float] = field(default_factory=list)
    scaled_from: list[float] = field(default_factory=list)
    pieces: dict[int, int] = field(default_factory=dict)
    inverted: bool = False

    def caught(self, error: CellSegError, file: str, kind: str = "") -> None:
        """Add an error as a finding."""
        self.findings.append(from_error(error, file, self.name, kind=kind))

    def warn(self, kind: str, file: str, cause: str, way_out: str) -> None:
        """Add a warning as a finding."""
        self.findings.append(Finding("warning", kind, file, cause, way_out, self.name))


def check_case(case: Case, datalist: Datalist) -> CaseReport:
    """Read all voxels of a case and report everything that is wrong with it.

    Parameters
    ----------
    case : Case
        A case of `datalist`.
    datalist : Datalist
        The data set, which says what the label values mean.
    """
    report = CaseReport(case.name)
    image = _check_image(case, report)
    if case.label is None:
        if case.split != "test":
            way_out = "add its label, or remove the case: it is not trained on"
            report.warn("no label", case.image, "has no label", way_out)
        return report
    label = _check_label(case, datalist, report)
    if image is not None and label is not None:
        _check_both(case, image, label, report)
    return report


def _check_image(case: Case, report: CaseReport) -> Volume | None:
    """Return the image, read into memory if all voxels are finite, else unread."""
    finite = True
    try:
        for warning in check_volume(case.image, **case.opening).warnings:
            constant = warning.startswith(_CONSTANT)
            kind = CONSTANT if constant else "odd file"
            way_out = (
                "a network learns nothing from it: remove the case"
                if constant
                else "look at it with `cellseg3d inspect`"
            )
            report.warn(kind, case.image, *_parts(warning, way_out))
    except NonFiniteError as error:
        report.caught(error, case.image)
        finite = False
    except CellSegError as error:
        report.caught(error, case.image)
        return None
    volume = case.open_image()
    report.spacing_um = list(volume.spacing.zyx) if volume.spacing else []
    return _measured(volume, report) if finite else volume


def _measured(volume: Volume, report: CaseReport) -> Volume | None:
    try:
        check_memory(volume.nbytes, volume.name)
        with reading(volume.name):
            array = volume.read()
    except CellSegError as error:
        report.caught(error, volume.name)
        return None
    report.content = content_hash(array)
    by_slice = np.moveaxis(array, -3, 0)
    report.slices = [
        content_hash(part[np.newaxis]) for part in by_slice if part.min() != part.max()
    ]
    several = array.ndim == 4
    by_voxel = np.moveaxis(array, 0, -1) if several else array
    _check_doubled(by_voxel, volume.name, report)
    held = volume.with_array(array)
    report.channels = list(held.channel_names) or [""] * held.channels
    report.intensity = np.percentile(
        sample_voxels(held.channel(0)), [1, 50, 99]
    ).tolist()
    scaling = IntensityScale().scaling_of(held)
    report.scaled_from = list(scaling.limits)
    if scaling.note and report.intensity and array.min() < array.max():
        way_out = "look at it: most of it may be empty, or a few voxels are extreme"
        report.warn("intensity scale", volume.name, scaling.note, way_out)
    return held


def _check_doubled(array: NDArray[Any], file: str, report: CaseReport) -> None:
    """Warn where a slice, row or column repeats the one before it."""
    for axis, word in enumerate(("slice", "row", "column")):
        planes = np.moveaxis(array, axis, 0)
        doubled = [
            place
            for place in range(1, len(planes))
            if planes[place].flat[0] == planes[place - 1].flat[0]
            and np.array_equal(planes[place], planes[place - 1])
            and planes[place].min() < planes[place].max()
        ]
        if doubled:
            listed = ", ".join(map(str, doubled[:8])) + ", ..." * (len(doubled) > 8)
            few = f"{word} is" if len(doubled) == 1 else f"{word}s are"
            cause = f"{len(doubled)} {few} the same as the one before ({listed})"
            way_out = "copy it again, or take out what an export doubled"
            report.warn(f"doubled {word}", file, cause, way_out)


def _check_label(case: Case, datalist: Datalist, report: CaseReport) -> Volume | None:
    """Return the label with its file's values; unread if they are not whole numbers."""
    file = str(case.label)
    if datalist.labels == "masks":
        raw = _masks(case, datalist, report)
    else:
        raw = _label_file(file, report, case.read_as)
    if raw is None or not isinstance(raw.array, np.ndarray):
        return raw
    report.label_content = content_hash(raw.array)
    if datalist.labels == "classes" or raw.array.max(initial=0) <= IGNORE:
        found, counts = value_counts(raw.array)
        report.values = _counted(found, counts)
    if datalist.labels == "classes":
        report.pieces = pieces_of(raw.array)
    try:
        classes = case_classes(raw.array, datalist, case, file)
    except LabelError as error:
        binary = set(report.values) <= {0, IGNORE}
        report.caught(error, file, BINARY_LABEL if binary else "unexpected values")
        return raw
    report.classes = _counted(*value_counts(classes))
    if len(datalist.classes) == 2 and IGNORE not in report.classes:
        report.inverted = seems_inverted(classes > 0)
    _check_annotation(file, report)
    if case.annotated_slices is None:
        _check_slices(file, classes, report)
    return raw


def _label_file(
    file: str, report: CaseReport, read_as: str | None = None
) -> Volume | None:
    try:
        for warning in check_volume(file, read_as=read_as).warnings:
            if not warning.startswith(_CONSTANT):  # `_check_annotation` says it better
                way_out = "look at it with `cellseg3d inspect`"
                report.warn("odd file", file, *_parts(warning, way_out))
        volume = open_volume(file, read_as=read_as)
        array = volume.read()
        whole = whole_numbers(array, file)
    except NonFiniteError as error:
        fault = LabelError(str(error).rpartition("; ")[0] + "; save the label again")
        report.caught(fault, file, "label not finite")
        return open_volume(file, read_as=read_as)
    except LabelError as error:
        report.caught(error, file, "fractional label values")
        return open_volume(file, read_as=read_as)
    except CellSegError as error:
        report.caught(error, file)
        return None
    if array.dtype.kind == "f":
        way_out = "this works; `cellseg3d doctor --fix OUT` writes integers"
        cause = f"stores whole numbers as {array.dtype}"
        report.warn(FLOAT_LABEL, file, cause, way_out)
    return volume.with_array(whole)


def _masks(case: Case, datalist: Datalist, report: CaseReport) -> Volume | None:
    try:
        return read_case_label(case, datalist)
    except CellSegError as error:
        before = len(report.findings)
        for path in list_volumes(str(case.label)):
            try:
                check_volume(path)
            except CellSegError as fault:
                report.caught(fault, str(path))
        if len(report.findings) == before:
            report.caught(error, str(case.label))
        return None


def _check_annotation(file: str, report: CaseReport) -> None:
    total = sum(report.classes.values())
    ignored = report.classes.get(IGNORE, 0)
    if ignored == total:
        cause = "nothing is annotated (all voxels are 255)"
        way_out = "annotate it, or remove the case"
    elif ignored + report.classes.get(0, 0) == total:
        cause = "holds background only"
        way_out = "keep it only if the volume is empty; if not, it is the wrong file"
    else:
        return
    report.warn(EMPTY_LABEL, file, cause, way_out)


def _check_slices(file: str, classes: NDArray[np.uint8], report: CaseReport) -> None:
    """Warn if probably only some slices were annotated.

    Objects become smaller from slice to slice before they end. If most slices are
    empty, and the slices beside empty ones hold as much as the others, somebody has
    probably labelled only some slices.
    """
    depth = len(classes)
    if depth < LEAST_SLICES or (classes == IGNORE).any():
        return
    filled = np.count_nonzero(classes, axis=(1, 2))
    held = filled > 0
    count = int(held.sum())
    parts = count - int((held[1:] & held[:-1]).sum())
    if not 0 < count <= FEW_SLICES * depth or (parts == 1 and count > 1):
        return  # Adjacent slices may show one object.
    # At the ends of a volume it is unknown whether an object ends.
    before, after = np.r_[True, held[:-1]], np.r_[held[1:], True]
    ends = held & ~(before & after)
    if not ends.any() or filled[ends].mean() < ABRUPT * filled[held].mean():
        return
    where = ", ".join(map(str, np.flatnonzero(held)[:8].tolist()))
    cause = (
        f"labels lie in {count} of {depth} slices ({where}{', ...' * (count > 8)}) and "
        "end abruptly there; all other slices are learned as background"
    )
    way_out = "if only these slices are annotated, set `annotated_slices` to labelled"
    report.warn(PARTLY, file, cause, way_out)


def _check_both(case: Case, image: Volume, label: Volume, report: CaseReport) -> None:
    """Report shape, spacing and affine one by one, then guess whether it is turned."""
    file = str(case.label)
    same_shape = image.shape == label.shape
    if not same_shape:
        orders = fitting_orders(image.shape, label.shape)
        try:
            check_pair(image, label, case)
        except CellSegError as error:
            report.caught(error, file, TRANSPOSED if orders else "shape")
    blank = np.broadcast_to(np.uint8(0), image.shape)
    placed = label.with_array(blank)
    for asked in (case, replace(case, spacing=image.spacing)):
        try:
            check_pair(image, placed, asked)
        except CellSegError as error:
            found = from_error(error, file, case.name)
            if found not in report.findings:
                report.findings.append(found)
    _check_place(file, image.array, label.array, report)


def _check_place(file: str, image: Any, label: Any, report: CaseReport) -> None:  # noqa: ANN401
    if not (isinstance(image, np.ndarray) and isinstance(label, np.ndarray)):
        return
    if np.array_equal(image, label):
        cause = "holds the same voxels as its image"
        way_out = "one of the two is the wrong file: correct the pair"
        report.warn("label as image", file, cause, way_out)
        return
    parts = image if image.ndim == 4 else [image]
    turns = [guess_turn(part, label) for part in parts]
    # Of several channels, some may not show the objects at all.
    turn = turns[0] if all(each is not None for each in turns) else None
    one = len(parts) == 1
    shift = guess_shift(image, label) if turn is None and one else None
    if shift is not None:
        moves = zip(shift, "zyx", strict=True)
        moved = " and ".join(f"{n} voxels along {axis}" for n, axis in moves if n)
        cause = f"seems shifted (a guess): its edges match the image better {moved}"
        way_out = "look at both with `cellseg3d preview`; move the label if it is wrong"
        report.warn("shifted label", file, f"{cause} away", way_out)
    if turn is None:
        return
    way_out = "look at both with `cellseg3d preview`, and turn the label if it is wrong"
    cause = f"seems turned (a guess): its edges match the image better when {turn}"
    report.warn("turned label", file, cause, way_out)


def _counted(values: NDArray[Any], counts: NDArray[Any]) -> dict[int, int]:
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    return {int(value): int(count) for value, count in pairs}


def _parts(warning: str, way_out: str) -> tuple[str, str]:
    cause, advice = parted(warning)
    return cause, advice or way_out

"""Find faults that show only when the cases of a data set are compared."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cellseg3d.core.errors import CellSegError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.core.words import counted
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.channels import common_channels
from cellseg3d.datasets.splits import Fold, check_duplicates, training_fold
from cellseg3d.doctor.findings import (
    DUPLICATE,
    FOLDS,
    GAPS,
    Finding,
    from_error,
    parted,
)
from cellseg3d.doctor.meaning import absent_from_training, no_background, perhaps_ids
from cellseg3d.doctor.pair import CaseReport

# An image is reported if its median differs from the usual median by more than
# FAR_WIDTHS usual widths (a width runs from percentile 1 to 99), or if its own width
# is more than FAR_RATIO times wider or narrower than the usual width.
FAR_WIDTHS = 3.0
FAR_RATIO = 10.0
# A voxel edge is reported if it differs from the usual one by more than this ratio:
# objects then have another size in voxels.
SPACING_RATIO = 1.5


def check_set(datalist: Datalist, reports: Sequence[CaseReport]) -> list[Finding]:
    """Return the faults that concern several cases of a data set.

    Parameters
    ----------
    datalist : Datalist
        The data set.
    reports : sequence of CaseReport
        One report for each case, in the datalist's order.
    """
    return [
        *_duplicates(datalist, reports),
        *_same_labels(datalist, reports),
        *_gaps(datalist, reports),
        *_unseen(datalist, reports),
        *_intensities(datalist, reports),
        *_spacings(datalist, reports),
        *_channels(datalist, reports),
        *_meanings(datalist, reports),
        *_folds(datalist, reports),
    ]


def closing_map(
    datalist: Datalist, reports: Sequence[CaseReport]
) -> dict[int, int] | None:
    """Return the label map that closes gaps in the label values, or None.

    There is one if the labels hold as many values (besides 0 and 255) as there are
    foreground classes, but not the values 1, 2, 3, ... The smallest value is then
    mapped to the first class, and so on.
    """
    if datalist.labels != "classes" or datalist.label_map is not None:
        return None
    values = sorted({v for r in reports for v in r.values} - {0, IGNORE})
    wanted = list(range(1, len(datalist.classes)))
    if not values or values[0] < 0 or len(values) != len(wanted) or values == wanted:
        return None
    return dict(zip(values, wanted, strict=True))


def _duplicates(datalist: Datalist, reports: Sequence[CaseReport]) -> Iterator[Finding]:
    pairs = zip(datalist.cases, reports, strict=True)
    for (one, first), (two, second) in itertools.combinations(pairs, 2):
        if first.content and first.content == second.content:
            yield _duplicate(one, two, datalist)
            continue
        shared = len(set(first.slices) & set(second.slices))
        if shared and _may_part(one, two):
            cause = f"shares {shared} slices with {one.image}, of another group"
            way_out = "give both cases the same group, so that no fold separates them"
            yield Finding(
                "warning", "shared slices", two.image, cause, way_out, two.name
            )


def _duplicate(one: Case, two: Case, datalist: Datalist) -> Finding:
    """Check two equal cases as a fold does that separates them if any fold may."""
    hashes = {one.name: "same", two.name: "same"}
    fold = Fold((one,), (two,)) if _may_part(one, two) else Fold((one, two), ())
    try:
        checked = check_duplicates(fold, hashes, allow=datalist.allow_shared_groups)
    except CellSegError as error:
        return from_error(error, two.image, two.name, kind=DUPLICATE)
    way_out = "it counts twice: remove one of the two cases"
    return Finding(
        "warning", DUPLICATE, two.image, checked.warnings[0], way_out, two.name
    )


def _may_part(one: Case, two: Case) -> bool:
    if one.split is not None and two.split is not None:
        return one.split != two.split
    return one.group != two.group


def _same_labels(
    datalist: Datalist, reports: Sequence[CaseReport]
) -> Iterator[Finding]:
    first: dict[str, tuple[Case, CaseReport]] = {}
    for case, report in zip(datalist.cases, reports, strict=True):
        if not set(report.classes) - {0, IGNORE}:
            continue  # Two empty labels may be equal.
        other, seen = first.setdefault(report.label_content, (case, report))
        if other is not case and seen.content != report.content:
            cause = f"is the same label as {other.label}, which has another image"
            way_out = "one of the two belongs to another image: correct the pair"
            yield Finding(
                "warning", "same label", str(case.label), cause, way_out, case.name
            )


def _gaps(datalist: Datalist, reports: Sequence[CaseReport]) -> Iterator[Finding]:
    closing = closing_map(datalist, reports)
    if closing is None:
        return
    listed = ", ".join(map(str, closing))
    mapping = ", ".join(f'"{value}": {index}' for value, index in closing.items())
    names = ", ".join(datalist.classes[1:])
    yield Finding(
        "error",
        GAPS,
        datalist.where,
        f"label values are {listed}; expected 1 to {len(closing)} without a gap",
        f'put "label_map": {{{mapping}}} into the datalist (for {names}), or run '
        "`cellseg3d doctor --fix OUT`",
    )


def _unseen(datalist: Datalist, reports: Sequence[CaseReport]) -> Iterator[Finding]:
    read = [report for report in reports if report.classes]
    if not read:
        return
    counts: Counter[int] = Counter()
    for report in read:
        counts.update(report.classes)
    absent = [
        f"{index} ({name})"
        for index, name in enumerate(datalist.classes)
        if index and not counts[index]
    ]
    if absent:
        several = len(absent) > 1
        word, verb = ("classes", "occur") if several else ("class", "occurs")
        what = "they" if several else "it"
        cause = f"{word} {', '.join(absent)} {verb} in no label (of {len(read)})"
        way_out = f"{what} cannot be learned: annotate, map to or remove {what}"
        way_out = way_out.replace("remove they", "remove them")
        yield Finding("warning", "class never seen", datalist.where, cause, way_out)


def _meanings(datalist: Datalist, reports: Sequence[CaseReport]) -> Iterator[Finding]:
    """Ask about labels without background, of ids, and of inverted masks."""
    classes: Counter[int] = Counter()
    for report in reports:
        classes.update(report.classes)
    values = sorted({value for report in reports for value in report.values})
    yield from no_background(datalist, dict(classes), values)
    yield from perhaps_ids(datalist, [report.pieces for report in reports])
    read = [report for report in reports if report.classes]
    if read and all(report.inverted for report in read):
        cause = (
            "the labels seem inverted (a guess): the foreground is most of each volume "
            "and in one piece, and the background lies in it in several pieces"
        )
        way_out = (
            'if 0 is the object, put "label_map": {"0": 1, "1": 0} into a datalist'
        )
        yield Finding("warning", "inverted label", datalist.where, cause, way_out)


def _intensities(
    datalist: Datalist, reports: Sequence[CaseReport]
) -> Iterator[Finding]:
    known = [
        (case, report.intensity)
        for case, report in zip(datalist.cases, reports, strict=True)
        if report.intensity
    ]
    for case, (low, middle, high) in known:
        rest = np.array([values for other, values in known if other is not case])
        if not len(rest):
            return
        usual = float(np.median(rest[:, 1]))
        width = float(np.median(rest[:, 2] - rest[:, 0]))
        own = high - low
        far = width > 0 and abs(middle - usual) > FAR_WIDTHS * width
        ratio = own / width if width > 0 and own > 0 else 1.0
        if far or not 1 / FAR_RATIO <= ratio <= FAR_RATIO:
            cause = (
                f"intensity {low:.4g} to {high:.4g} (median {middle:.4g}) is far from "
                f"the other images' (median {usual:.4g}, width {width:.4g})"
            )
            way_out = "check its intensity unit and how the file was made"
            yield Finding(
                "warning", "intensity far off", case.image, cause, way_out, case.name
            )


def _spacings(datalist: Datalist, reports: Sequence[CaseReport]) -> Iterator[Finding]:
    read = [report for report in reports if report.content]
    without = [report.name for report in read if not report.spacing_um]
    if without:
        cause = (
            f"spacing is unknown for {len(without)} of {counted(len(read), 'image')}, "
            "so 3D networks treat their voxels as cubes"
        )
        way_out = "give `spacing_um`; without it nothing is measured in um"
        yield Finding("warning", "spacing", datalist.where, cause, way_out)
    edges = np.array([report.spacing_um for report in read if report.spacing_um])
    if not len(edges):
        return
    usual = np.median(edges, axis=0)
    by_name: Mapping[str, Case] = {case.name: case for case in datalist.cases}
    for report in read:
        if not report.spacing_um:
            continue
        ratio = np.array(report.spacing_um) / usual
        if max(ratio.max(), 1 / ratio.min()) > SPACING_RATIO:
            one, other = Spacing.of(report.spacing_um), Spacing.of(usual.tolist())
            cause = f"spacing is {one}; the other images have {other}"
            way_out = "check it; if it is right, train with spacing_um set to one value"
            image = by_name[report.name].image
            yield Finding("warning", "spacing", image, cause, way_out, report.name)


def _channels(datalist: Datalist, reports: Sequence[CaseReport]) -> Iterator[Finding]:
    """Report images that differ in their channels."""
    read = [
        (case, report)
        for case, report in zip(datalist.cases, reports, strict=True)
        if report.channels
    ]
    images = [
        Volume(
            np.broadcast_to(np.uint8(0), (len(report.channels), 1, 1, 1)),
            provenance={"path": case.image},
            channel_names=tuple(report.channels) if all(report.channels) else (),
        )
        for case, report in read
    ]
    try:
        common_channels(images, datalist.where)
    except CellSegError as error:
        yield from_error(error, datalist.where, kind="channels")


def _folds(datalist: Datalist, reports: Sequence[CaseReport]) -> Iterator[Finding]:
    """Report the errors and warnings of the data set's first fold."""
    if datalist.path is None:  # The data set is one pair, which is not split.
        return
    try:
        fold = training_fold(datalist)
    except CellSegError as error:
        yield from_error(error, datalist.where, kind=FOLDS)
        return
    known = {report.name: report.classes for report in reports if report.classes}
    yield from absent_from_training(datalist, fold, known)
    for warning in fold.warnings:
        words = warning.replace(f"{datalist.where}: ", "")
        kept, advice = parted(words)
        way_out = advice or "consider it when you read the scores"
        yield Finding("warning", FOLDS, datalist.where, kept, way_out)

"""Turn the corrected pieces of reviews into a data set to train on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.atomic import make_folder, write_text
from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.form import check_form
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.datasets.cases import Case, Datalist, case_stem
from cellseg3d.datasets.datalist import load_datalist, write_datalist
from cellseg3d.datasets.labels import class_labels
from cellseg3d.datasets.volumes import check_pair, read_case_label
from cellseg3d.io.output.writing import slabs
from cellseg3d.io.registry import create_volume, read_labels, write_labels
from cellseg3d.review.corrected import read_corrected
from cellseg3d.review.pieces import MARKS, Piece, Review, load_review
from cellseg3d.review.prepare import open_reviewed

RECORD = "reviewed.json"
DATALIST = "datalist.json"
_FORM = {"pieces": [{"review": str, "piece": str, "held_back": bool}]}
# TIFF packs labels of fewer voxels than this; larger ones become Zarr, in chunks.
TIFF_VOXELS = 2**31


@dataclass(frozen=True)
class Reviewed:
    """A piece that a person has corrected, or has marked as right.

    Parameters
    ----------
    review : Review
    piece : Piece
    predicted, corrected : ndarray of uint8, shape (rows, columns)
        The labels of the network, and those after the correction. 255 in the latter
        is "not annotated".
    held_back : bool
        Whether the piece is left out of the training, so that the network can be scored
        on it.
    """

    review: Review
    piece: Piece
    predicted: NDArray[np.uint8]
    corrected: NDArray[np.uint8]
    held_back: bool = False

    @property
    def changed(self) -> int:
        """The number of pixels whose label was corrected."""
        annotated = self.corrected != IGNORE
        return int(((self.corrected != self.predicted) & annotated).sum())


def reviewed_pieces(review: Review) -> list[Reviewed]:
    """Return the pieces of a review that were corrected or marked as seen.

    Raises
    ------
    InputError
        If a file is missing or has another shape.
    LabelError
        If a file holds other values than class indices and 255.
    """
    seen = review.seen()
    found = []
    for piece in review.pieces:
        predicted = piece.predicted_file(review.folder)
        before = read_labels(predicted).read()[0].astype(np.uint8)
        rows, columns = before.shape
        path = piece.labels_file(review.folder)
        after = read_corrected(path, (rows, columns), review.classes)
        if piece.name in seen or (after != before).any():
            found.append(Reviewed(review, piece, before, after))
    return found


def merge_reviews(
    folders: Sequence[Path],
    out: Path,
    *,
    add: Sequence[Path] = (),
    hold_back: int = 0,
) -> list[Reviewed]:
    """Write a data set of the reviewed pieces; all other voxels are "not annotated".

    Each reviewed volume becomes a case. Its label has the volume's shape and holds 255
    outside of the reviewed pieces. Where pieces of several reviews overlap, the label
    is that of the later review.

    Parameters
    ----------
    folders : sequence of Path
        Reviews, the oldest first.
    out : Path
        Folder of the data set; empty, or not there yet.
    add : sequence of Path
        Datalists whose cases are added to the data set. If a case has the image of a
        reviewed volume, its label is kept outside of the pieces.
    hold_back : int
        The number of pieces, spread over all, that are left out of the training.

    Returns
    -------
    list of Reviewed
        The pieces that were corrected or marked as seen.

    Raises
    ------
    ConfigError
        If the classes differ, the folder is not empty, or too many pieces are held
        back.
    InputError
        If nothing was reviewed, or a file cannot be used.
    """
    if out.exists() and any(out.iterdir()):
        message = f"{out}: is not empty; choose another folder, or remove it"
        raise ConfigError(message)
    reviews = [load_review(Path(folder)) for folder in folders]
    classes = reviews[0].classes
    lists = [load_datalist(path) for path in add]
    _check_classes(reviews, lists)
    found = [each for review in reviews for each in reviewed_pieces(review)]
    if not found:
        message = (
            f"{folders[0]}: nothing was reviewed: no label file was changed, and none "
            f"is marked in the column 'seen' of {MARKS}"
        )
        raise InputError(message)
    found = _held_back(found, hold_back)
    make_folder(out)
    cases = {
        _place(case.image): (case, datalist)
        for datalist in lists
        for case in datalist.cases
    }
    merged = [
        _merged_case(name, mine, cases.pop(_place(name), None), out)
        for name, mine in _by_volume(found)
    ]
    merged += [_as_classes(case, datalist, out) for case, datalist in cases.values()]
    write_datalist(
        Datalist(
            name=f"reviewed: {', '.join(each.folder.name for each in reviews)}",
            classes=classes,
            label_map=_label_map(classes),
            cases=_named_apart(merged),
            path=out / DATALIST,
        ),
        out / DATALIST,
    )
    _save(found, out / RECORD)
    return found


def load_reviewed(folder: Path) -> list[Reviewed]:
    """Return the pieces that a merged data set was made of.

    Raises
    ------
    ConfigError
        If the folder holds no merged data set.
    """
    path = folder / RECORD
    try:
        values = read_mapping(path)
        check_form(values, _FORM, str(path))
    except ConfigError as error:
        message = (
            f"{path}: is missing or damaged; give a folder that `cellseg3d review "
            f"merge` wrote ({error})"
        )
        raise ConfigError(message) from error
    rows = values["pieces"]
    kept = {(row["review"], row["piece"]): row["held_back"] for row in rows}
    reviews = [load_review(Path(name)) for name in dict.fromkeys(r for r, _ in kept)]
    return [
        replace(each, held_back=kept[key])
        for review in reviews
        for each in reviewed_pieces(review)
        if (key := (str(review.folder), each.piece.name)) in kept
    ]


def _label_map(classes: Sequence[str]) -> dict[int, int]:
    """Return a label map that keeps each class, and 255 as "not annotated".

    Without it, a label that holds only 0 and 255 would be read as a mask. Here it is
    the label of a volume in which only background was reviewed.
    """
    return {value: value for value in (*range(len(classes)), IGNORE)}


def _check_classes(reviews: Sequence[Review], lists: Sequence[Datalist]) -> None:
    classes = reviews[0].classes
    for name, other in (
        *((str(review.folder), review.classes) for review in reviews[1:]),
        *((datalist.where, datalist.classes) for datalist in lists),
    ):
        if tuple(other) != classes:
            message = (
                f"{name}: its classes are {list(other)}, those of "
                f"{reviews[0].folder} {list(classes)}; merge what has the same classes"
            )
            raise ConfigError(message)


def _held_back(found: Sequence[Reviewed], count: int) -> list[Reviewed]:
    if not 0 <= count < len(found):
        message = (
            f"{count} of {len(found)} reviewed pieces cannot be held back; "
            "`hold_back` has to leave one to train on"
        )
        raise ConfigError(message)
    numbers = {int((place + 0.5) * len(found) / count) for place in range(count)}
    return [
        replace(each, held_back=index in numbers) for index, each in enumerate(found)
    ]


def _by_volume(
    found: Sequence[Reviewed],
) -> Iterator[tuple[str, list[Reviewed]]]:
    for name in dict.fromkeys(each.piece.volume for each in found):
        mine = [each for each in found if each.piece.volume == name]
        if any(not each.held_back for each in mine):
            yield name, mine


def _merged_case(
    name: str,
    found: Sequence[Reviewed],
    known: tuple[Case, Datalist] | None,
    out: Path,
) -> Case:
    """Write the label of a volume, region by region, and return its case."""
    review = found[-1].review
    volume = open_reviewed(review, name)
    edges = None if review.spacing_um is None else Spacing.of(list(review.spacing_um))
    labels = None
    seen = review.channels.get(name)
    case = Case(
        case_stem(name),
        name,
        None,
        case_stem(name),
        spacing=edges,
        channel=seen[0] if seen and len(seen) == 1 else None,
        channels=tuple(seen) if seen and len(seen) > 1 else None,
    )
    if known is not None:
        case, datalist = known
        raw = read_case_label(case, datalist)
        check_pair(volume, raw, case)
        labels = class_labels(raw.read(), datalist, raw.name)
    size = Roi.whole(volume.shape).size
    suffix = ".tif" if size < TIFF_VOXELS else ".ome.zarr"
    path = _free(out, case_stem(name), suffix)
    with create_volume(
        path,
        volume.shape,
        np.uint8,
        spacing=volume.spacing,
        affine_mm=volume.affine_mm,
        metadata={"labels": True},
    ) as writer:
        for roi in slabs(volume, writer.unit):
            part = np.full(roi.shape, IGNORE, np.uint8)
            if labels is not None:
                part[:] = labels[roi.slices]
            for each in found:
                _put_piece(part, roi, each)
            writer.write(roi, part)
    return replace(case, label=str(path))


def _put_piece(part: NDArray[np.uint8], roi: Roi, reviewed: Reviewed) -> None:
    """Write a piece's labels into the part of a region that it covers, or 255.

    255 is written if the piece is held back.
    """
    piece = reviewed.piece
    shared = piece.roi.intersect(roi)
    if shared.size == 0:
        return
    upright = piece.upright(reviewed.corrected)
    new = upright[shared.within(piece.roi).slices]
    part[shared.within(roi).slices] = IGNORE if reviewed.held_back else new


def _as_classes(case: Case, datalist: Datalist, out: Path) -> Case:
    """Return a case whose label file holds class indices; write one if it does not."""
    plain = datalist.labels == "classes" and datalist.label_map is None
    if plain or case.label is None:
        return case
    raw = read_case_label(case, datalist)
    path = _free(out, case.name, ".tif")
    values = class_labels(raw.read(), datalist, raw.name)
    write_labels(path, raw.with_array(values))
    return replace(case, label=str(path))


def _free(out: Path, stem: str, suffix: str) -> Path:
    """Return a path for a label file in a folder, under a name that is free."""
    path, number = out / f"{stem}_labels{suffix}", 1
    while path.exists():
        number += 1
        path = out / f"{stem}_{number}_labels{suffix}"
    return path


def _named_apart(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Return cases whose names are unique; groups stay as they are."""
    taken: set[str] = set()
    found = []
    for case in cases:
        name, number = case.name, 1
        while name in taken:
            number += 1
            name = f"{case.name}_{number}"
        taken.add(name)
        found.append(replace(case, name=name))
    return tuple(found)


def _place(location: str) -> str:
    return str(Path(location).absolute())


def _save(found: Sequence[Reviewed], path: Path) -> None:
    rows: list[Mapping[str, Any]] = [
        {
            "review": str(each.review.folder.absolute()),
            "piece": each.piece.name,
            "changed": each.changed,
            "held_back": each.held_back,
        }
        for each in found
    ]
    text = json.dumps({"pieces": rows}, indent=1) + "\n"
    write_text(path, text)

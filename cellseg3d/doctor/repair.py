"""Write a copy of a data set with the faults repaired that need no guessing."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import EnvironmentFault, InputError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import Case, Datalist
from cellseg3d.datasets.datalist import write_datalist
from cellseg3d.datasets.labels import whole_numbers
from cellseg3d.doctor.examine import Diagnosis
from cellseg3d.doctor.findings import (
    BINARY_LABEL,
    FLOAT_LABEL,
    GAPS,
    NAN_IMAGE,
    TRANSPOSED,
)
from cellseg3d.doctor.orientation import fitting_orders
from cellseg3d.doctor.whole_set import closing_map
from cellseg3d.io.finite import non_finite
from cellseg3d.io.registry import open_volume, write_labels, write_volume
from cellseg3d.io.sniff import volume_suffix

LOG = "fixes.json"
DATALIST = "datalist.json"
# A repaired file keeps its format if it is one of these; others become TIFF.
_KEPT = (".nii", ".nii.gz", ".mrc")


@dataclass
class Repair:
    """What a repair changed, and which cases it left out.

    Parameters
    ----------
    datalist : Path
        The repaired data set. Files that needed no repair are not copied: it names
        them where they lie.
    changes : list of dict
        ``file``, ``written``, ``change`` and ``voxels`` of each repair.
    left_out : list of dict
        ``case`` and ``why`` of each case with an error that cannot be repaired.
    """

    datalist: Path
    changes: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)

    def note(self, file: str, written: Path, change: str, voxels: int) -> None:
        """Add a repair to the log."""
        self.changes.append(
            {"file": file, "written": str(written), "change": change, "voxels": voxels}
        )


def repair(diagnosis: Diagnosis, out: Path) -> Repair:
    """Write a repaired copy of a data set; the original files are not changed.

    These faults are repaired; a case with any other error is left out, and
    ``fixes.json`` lists it with its error:

    - NaN and infinity in an image become the median of its finite voxels.
    - 255 becomes 1 in a label of only 0 and 255, if there is one foreground class.
    - Whole numbers stored as floats become integers.
    - A label is transposed if exactly one order of its axes fits the image.
    - Gaps in the label values are closed by a label map.

    Parameters
    ----------
    diagnosis : Diagnosis
        What `examine` found in the data set.
    out : Path
        The folder to write; it must be empty or not exist yet.

    Raises
    ------
    EnvironmentFault
        If the folder is not empty or cannot be written.
    InputError
        If no case can be repaired; the folder is then removed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EnvironmentFault(f"{out}: is not empty; choose another folder")
    was_there = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _repaired(diagnosis, out)
    except BaseException:
        # An incomplete folder would prevent another attempt.
        shutil.rmtree(out, ignore_errors=True)
        if was_there:
            out.mkdir()
        raise


def _repaired(diagnosis: Diagnosis, out: Path) -> Repair:
    """Write the repaired cases and the log into an empty folder.

    Raises
    ------
    InputError
        If no case can be repaired.
    """
    done = Repair(out / DATALIST)
    if diagnosis.datalist is not None:
        _repair_cases(diagnosis, diagnosis.datalist, out, done)
    if not done.datalist.is_file():
        hopeless = [why for case in done.left_out for why in case["why"]]
        hopeless += [finding.line for finding in diagnosis.errors]
        first = hopeless[0] if hopeless else "it holds no case"
        message = f"no case can be repaired, so {out} was not written: {first}"
        raise InputError(message)
    log = {"changes": done.changes, "left_out": done.left_out}
    text = json.dumps(log, indent=2) + "\n"
    write_text(out / LOG, text)
    return done


def _repair_cases(
    diagnosis: Diagnosis, datalist: Datalist, out: Path, done: Repair
) -> None:
    closing = closing_map(datalist, diagnosis.reports)
    curable = {NAN_IMAGE, TRANSPOSED} | ({"unexpected values"} if closing else set())
    if len(datalist.classes) == 2:
        curable.add(BINARY_LABEL)
    kept = []
    for case, report in zip(datalist.cases, diagnosis.reports, strict=True):
        errors = [f for f in report.findings if f.severity == "error"]
        kinds = {finding.kind for finding in report.findings}
        hopeless = [f.line for f in errors if f.kind not in curable]
        if TRANSPOSED in kinds and _one_order(case) is None:
            hopeless.append(f"{case.label}: several orders of its axes fit")
        if hopeless:
            done.left_out.append({"case": case.name, "why": hopeless})
            continue
        masks = datalist.labels == "masks"
        kept.append(_repair_case(case, kinds, out, done, masks=masks))
    if closing is not None:
        done.note(datalist.where, done.datalist, f"{GAPS}: label_map {closing}", 0)
    if kept:
        mapping = datalist.label_map if closing is None else closing
        fixed = replace(
            datalist, cases=tuple(map(_absolute, kept)), label_map=mapping, path=None
        )
        write_datalist(fixed, done.datalist.resolve())


def _repair_case(
    case: Case, kinds: set[str], out: Path, done: Repair, *, masks: bool
) -> Case:
    fill = NAN_IMAGE in kinds
    relabel = bool(kinds & {BINARY_LABEL, FLOAT_LABEL, TRANSPOSED})
    if case.read_as is not None and (fill or relabel):
        # Written files have plain axes, so `read_as` must not apply to the other one.
        fill, relabel = True, case.label is not None and not masks
    repaired = case
    if fill:
        written = _target(out / "images", case.name, case.image)
        _fill(case, written, done)
        repaired = replace(repaired, image=str(written), channel=None, read_as=None)
    if relabel and case.label is not None:
        written = _target(out / "labels", case.name, case.label)
        _repair_label(case, kinds, written, done)
        repaired = replace(repaired, label=str(written))
    return repaired


def _fill(case: Case, written: Path, done: Repair) -> None:
    volume = open_volume(case.image, **case.opening)
    array = volume.read().copy()
    # A network reads float32, in which larger values are infinite; `check_volume`
    # counts them too.
    wrong = ~(np.abs(array) <= np.finfo(np.float32).max)
    count, _ = non_finite(array)
    middle = np.median(array[~wrong]) if count < array.size else 0
    array[wrong] = middle
    write_volume(written, volume.with_array(array))
    change = f"NaN and infinity became the median {middle:g}"
    done.note(case.image, written, change if count else "axes in order", count)


def _repair_label(case: Case, kinds: set[str], written: Path, done: Repair) -> None:
    file = str(case.label)
    volume = open_volume(file, read_as=case.read_as)
    raw = volume.read()
    values: NDArray[Any] = whole_numbers(raw, file)
    if raw.dtype.kind == "f":
        change = f"{raw.dtype} became integers of the same values"
        done.note(file, written, change, raw.size)
    if BINARY_LABEL in kinds:
        count = int((values == IGNORE).sum())
        values = np.where(values == IGNORE, 1, values)
        done.note(file, written, "255 became 1", count)
    place: Volume = volume
    order = _one_order(case) if TRANSPOSED in kinds else None
    if order is not None:
        values, place = values.transpose(order), open_volume(case.image, **case.opening)
        letters = "".join("zyx"[axis] for axis in order)
        done.note(file, written, f"axes read as {letters}, placed as its image", 0)
    write_labels(written, place.with_array(np.ascontiguousarray(values)))


def _one_order(case: Case) -> tuple[int, int, int] | None:
    image, label = (
        open_volume(case.image, **case.opening),
        open_volume(str(case.label), read_as=case.read_as),
    )
    orders = fitting_orders(image.shape, label.shape)
    return orders[0] if len(orders) == 1 else None


def _target(folder: Path, name: str, source: str) -> Path:
    folder.mkdir(exist_ok=True)
    suffix = volume_suffix(source)
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    kept = suffix if suffix in _KEPT else ".tif"
    path = folder / f"{safe}{kept}"
    number = 1
    while path.exists():  # Two names may differ only in the replaced characters.
        number += 1
        path = folder / f"{safe}_{number}{kept}"
    return path


def _absolute(case: Case) -> Case:
    label = None if case.label is None else str(Path(case.label).resolve())
    return replace(case, image=str(Path(case.image).resolve()), label=label)

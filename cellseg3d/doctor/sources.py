"""Read a datalist or a folder despite faulty entries, and report these entries."""

from dataclasses import replace
from pathlib import Path

from cellseg3d.core.errors import CellSegError
from cellseg3d.core.mappings import read_mapping
from cellseg3d.datasets.cases import Datalist
from cellseg3d.datasets.datalist import parse_datalist, resolve_datalist
from cellseg3d.datasets.pairing import (
    Pairs,
    UnpairedError,
    datalist_of_pairs,
    find_pairs,
)
from cellseg3d.doctor.findings import Finding, from_error

Found = tuple[Datalist | None, list[Finding]]


def read_what_reads(place: str | Path) -> Found:
    """Return the data set without its malformed entries, and what is wrong with them.

    Parameters
    ----------
    place : str or Path
        A datalist (JSON or YAML), or a folder.

    Returns
    -------
    datalist : Datalist or None
        None when no case is left.
    findings : list of Finding
        One for each malformed entry or file without a partner.
    """
    try:
        path = resolve_datalist(place)
        return _folder(path) if path.is_dir() else _file(path)
    except CellSegError as error:
        return None, [from_error(error, str(place))]


def _file(path: Path) -> Found:
    """Parse case by case, so that every malformed case is reported, not one."""
    values = dict(read_mapping(path))
    entries = values.get("cases")
    try:
        return parse_datalist(values, path), []
    except CellSegError as error:
        first = from_error(error, str(path))
    if not isinstance(entries, list) or not entries:
        return None, [first]
    good, findings = [], []
    for number, entry in enumerate(entries):
        try:
            parse_datalist({**values, "cases": [entry]}, path)
        except CellSegError as error:
            words = str(error).replace(": case 0", f": case {number}", 1)
            findings.append(from_error(type(error)(words), str(path)))
        else:
            good.append(entry)
    if not good:
        # A fault outside of the cases is reported with each case; keep it once.
        return None, list(dict.fromkeys(findings))
    try:
        return parse_datalist({**values, "cases": good}, path), findings
    except CellSegError as error:
        return None, [*findings, from_error(error, str(path))]


def _folder(folder: Path) -> Found:
    findings: list[Finding] = []
    try:
        pairs, masks = find_pairs(folder)
    except UnpairedError as error:
        pairs, masks = error.pairs, False
        findings = [_unpaired(file) for file in error.alone]
    if not pairs:
        return None, findings
    try:
        return datalist_of_pairs(folder, pairs, masks=masks), findings
    except CellSegError:
        return _tolerant(folder, pairs), findings


def _unpaired(file: str) -> Finding:
    cause = "has no partner of the same stem"
    way_out = "add the partner, remove the file, or write a datalist.json"
    return Finding("error", "unpaired name", file, cause, way_out)


def _tolerant(folder: Path, pairs: Pairs) -> Datalist:
    """Return a datalist with the classes of those labels that can be read.

    It has background and foreground when none can. The labels that cannot be read are
    reported when their cases are checked.
    """
    good: Pairs = {}
    for stem, pair in pairs.items():
        try:
            datalist_of_pairs(folder, {stem: pair})
        except CellSegError:
            continue
        good[stem] = pair
    # With masks=True, no label is opened.
    every = datalist_of_pairs(folder, pairs, masks=True)
    if not good:
        return replace(every, labels="classes", classes=("background", "foreground"))
    return replace(datalist_of_pairs(folder, good), cases=every.cases)

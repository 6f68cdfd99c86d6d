"""Check every file of a data set before a training reads it."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from cellseg3d import __version__
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import CellSegError, ConfigError, InputError
from cellseg3d.core.user_cache import user_cache
from cellseg3d.datasets.cases import Case, Datalist, split_inner
from cellseg3d.doctor.findings import (
    CONSTANT,
    DATALIST,
    DUPLICATE,
    EMPTY_LABEL,
    FOLDS,
    MACHINE,
    Finding,
)
from cellseg3d.doctor.pair import CaseReport, check_case
from cellseg3d.doctor.sources import read_what_reads
from cellseg3d.doctor.whole_set import check_set

# Loading a fold reports these kinds: only there it is known which cases train.
_TOLD_BY_FOLD = frozenset({CONSTANT, DUPLICATE, EMPTY_LABEL, FOLDS})
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Diagnosis:
    """A data set and everything that is wrong with it.

    Parameters
    ----------
    datalist : Datalist or None
        The data set without the entries that are malformed; None when none is left.
    reports : tuple of CaseReport
        One report for each case of the datalist, in its order.
    findings : tuple of Finding
        All findings, errors first.
    """

    datalist: Datalist | None
    reports: tuple[CaseReport, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a training."""
        return tuple(each for each in self.findings if each.severity == "error")


def diagnose(
    data: str | Path | Datalist, *, cache_dir: Path | None = None
) -> list[Finding]:
    """Return every problem of every file of a data set, errors first.

    Parameters
    ----------
    data : str, Path or Datalist
        A datalist, or a folder of volumes and labels.
    cache_dir : Path, optional
        Folder that keeps the report on each case. A case whose files have not changed
        since is not read again. Nothing is kept when None.

    Returns
    -------
    list of Finding
    """
    return list(examine(data, cache_dir=cache_dir).findings)


def examine(
    data: str | Path | Datalist,
    *,
    cache_dir: Path | None = None,
    on_case: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Return a data set with a report on each case, and all findings.

    Parameters
    ----------
    data, cache_dir
        As for `diagnose`.
    on_case : callable, optional
        Called after each case with the number of cases checked and of all cases.
    """
    findings: list[Finding] = []
    datalist: Datalist | None
    if isinstance(data, Datalist):
        datalist = data
    else:
        datalist, findings = read_what_reads(data)
    if datalist is None:
        return Diagnosis(None, (), tuple(findings))
    reports = []
    for number, case in enumerate(datalist.cases, start=1):
        reports.append(_report(case, datalist, cache_dir))
        if on_case is not None:
            on_case(number, len(datalist.cases))
    findings += [finding for report in reports for finding in report.findings]
    findings += check_set(datalist, reports)
    findings.sort(key=lambda finding: finding.severity != "error")
    return Diagnosis(datalist, tuple(reports), tuple(findings))


def examine_before_training(
    data: str | Path | Datalist, *, cache_dir: Path | None = None
) -> list[str]:
    """Return the warnings about a data set; refuse the data set if it has errors.

    Some faults depend on which cases train and which validate, such as one image on
    both sides. They are left out here, because loading the fold reports them.

    Parameters
    ----------
    data : str or Path
        A datalist, or a folder of volumes and labels.
    cache_dir : Path, optional
        `default_cache` when None.

    Raises
    ------
    InputError, ConfigError
        If there is an error. The message holds the first one and the number of the
        others, which are logged.
    """
    findings = diagnose(data, cache_dir=cache_dir or default_cache())
    findings = [each for each in findings if each.kind not in _TOLD_BY_FOLD]
    stopping = [each for each in findings if each.severity == "error"]
    if stopping:
        for finding in stopping[1:]:
            logger.error("%s", finding.line)
        more = len(stopping) - 1
        place = data.where if isinstance(data, Datalist) else data
        hint = f" ({more} more above)" if more else ""
        fault = ConfigError if stopping[0].kind == DATALIST else InputError
        raise fault(f"{stopping[0].line}{hint}; `cellseg3d doctor {place}` shows all")
    return [finding.line for finding in findings]


def default_cache() -> Path:
    """Return the folder of kept reports, below the user's home folder."""
    return user_cache() / "doctor"


def pair_datalist(image: str, label: str, classes: int) -> Datalist:
    """Return one image and its label as a data set.

    Parameters
    ----------
    image, label : str
        Paths, with ``::inner`` for a dataset in a file.
    classes : int
        Number of classes, background included; at least 2.
    """
    names = ("background", *(f"class_{index}" for index in range(1, classes)))
    case = Case("pair", image, label, group="pair")
    return Datalist(image, names, None, (case,))


def _report(case: Case, datalist: Datalist, cache_dir: Path | None) -> CaseReport:
    if cache_dir is None:
        return check_case(case, datalist)
    try:
        path = cache_dir / f"{_key(case, datalist)}.json"
    except OSError:  # The file cannot be read; the report says why.
        return check_case(case, datalist)
    if path.is_file():
        try:
            return _read_report(path)
        except (OSError, ValueError, KeyError, TypeError):
            logger.info("%s: is not readable, so the case is checked again", path)
    report = check_case(case, datalist)
    if all(finding.kind != MACHINE for finding in report.findings):
        _keep(path, report)
    return report


def _key(case: Case, datalist: Datalist) -> str:
    """Return a hash of everything that a report depends on.

    These are the bytes and names of the files, the classes, and this package's version.
    """
    facts = [
        __version__,
        asdict(case),
        list(datalist.classes),
        datalist.labels,
        sorted((datalist.label_map or {}).items()),
        datalist.label_map is None,
    ]
    digest = hashlib.blake2b(json.dumps(facts, default=str).encode(), digest_size=16)
    for location in (case.image, case.label):
        if location is not None:
            file, _ = split_inner(location)
            files = sorted(file.rglob("*")) if file.is_dir() else [file]
            for each in files:
                if not file.is_dir() or each.is_file():
                    digest.update(os.fsencode(each.name))
                    with each.open("rb") as stream:
                        digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _read_report(path: Path) -> CaseReport:
    values = json.loads(path.read_text(encoding="utf-8"))
    values["findings"] = [Finding(**each) for each in values["findings"]]
    for name in ("values", "classes", "pieces"):
        values[name] = {int(key): count for key, count in values[name].items()}
    return CaseReport(**values)


def _keep(path: Path, report: CaseReport) -> None:
    text = json.dumps(asdict(report))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except (OSError, CellSegError) as error:
        logger.info("the report is not kept: %s", error)

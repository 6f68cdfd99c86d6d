"""``cellseg3d doctor``: find and repair the problems of a data set."""

# ruff: noqa: PLC0415 - imports wait until the verb runs

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellseg3d.cli.terminal.reading_options import (
    AnnotatedSlices,
    Channel,
    Channels,
    SpacingUm,
    several,
)
from cellseg3d.cli.terminal.wording import worded
from cellseg3d.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cellseg3d.datasets.cases import Datalist
    from cellseg3d.doctor.examine import Diagnosis
    from cellseg3d.doctor.findings import Finding
    from cellseg3d.doctor.repair import Repair


def command(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATALIST|FOLDER",
            help="The data set; instead, --image and --label name one case.",
        ),
    ] = None,
    *,
    image: Annotated[
        str | None, typer.Option(help="Examine this image, not a data set.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Take these labels for those of --image.")
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Expect this many classes in --label, background included.",
        ),
    ] = None,
    spacing_um: SpacingUm = None,
    annotated_slices: AnnotatedSlices = None,
    channel: Channel = None,
    channels: Channels = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write a repaired copy into this new folder; the input is not "
            "changed.",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the findings to this JSON file.")
    ] = None,
) -> None:
    """Find every problem of a data set before training.

    Each problem takes one line, which says what to do about it. A training examines
    its data set in this way before it begins. The exit code is 2 if there are errors
    and 0 if there are only warnings.

    --fix repairs what needs no guessing: NaN in images, labels of 0 and 255, gaps in
    label values, labels stored as floats or with turned axes. OUT/fixes.json lists
    each change.
    """
    from cellseg3d.datasets.told import told_datalist
    from cellseg3d.doctor.examine import default_cache, examine, pair_datalist
    from cellseg3d.doctor.findings import REPAIRABLE
    from cellseg3d.io.output.ownership import check_outputs

    given = [str(each) for each in (data, image, label) if each]
    files = [each for each in given if not Path(each).is_dir()]
    check_outputs([each for each in (json, fix) if each], files)
    source: str | Path | Datalist
    if data is not None and image is None and label is None:
        source = data
    elif data is None and image and label and classes:
        source = pair_datalist(image, label, classes)
    else:
        raise ConfigError(
            "doctor: give a datalist or a folder, or else all of --image, --label and "
            "--classes"
        )
    source = told_datalist(
        source,
        spacing_um,
        annotated_slices,
        channel=channel,
        channels=several(channels),
    )
    diagnosis = examine(source, cache_dir=default_cache())
    _show(diagnosis)
    if json is not None:
        _write_json(diagnosis, json)
    if fix is not None:
        from cellseg3d.doctor.repair import repair

        _tell(repair(diagnosis, fix))
    elif any(finding.kind in REPAIRABLE for finding in diagnosis.findings):
        again = data or "--image IMAGE --label LABEL --classes N"
        print(f"next: cellseg3d doctor {again} --fix OUT writes a repaired copy")
    if diagnosis.errors:
        raise typer.Exit(2)


def _show(diagnosis: "Diagnosis") -> None:
    from rich.console import Console

    from cellseg3d.datasets.intensity import limits_in_words

    console = Console()
    if not console.is_terminal:  # a log file has room for the whole table
        console = Console(width=240)
    if diagnosis.findings:
        console.print(_table(diagnosis.findings))
    some = [report for report in diagnosis.reports if report.scaled_from]
    if some:
        listed = "; ".join(
            f"{report.name} {limits_in_words(report.scaled_from, 'and')}"
            for report in some[:5]
        )
        more = "; ..." * (len(some) > 5)
        print(f"intensities that become -1 and 1: {listed}{more}")
    cases = 0 if diagnosis.datalist is None else len(diagnosis.datalist.cases)
    errors = len(diagnosis.errors)
    warnings = len(diagnosis.findings) - errors
    print(f"cases: {cases}; errors: {errors}; warnings: {warnings}")


def _table(findings: "Sequence[Finding]") -> object:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in ("file", "found", "way out"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        style = "red" if finding.severity == "error" else "yellow"
        table.add_row(
            f"[{style}]{finding.severity}[/]",
            escape(finding.file),
            escape(worded(f"{finding.kind}: {finding.cause}")),
            escape(worded(finding.way_out)),
        )
    return table


def _write_json(diagnosis: "Diagnosis", path: Path) -> None:
    import json

    from cellseg3d.core.atomic import write_text

    text = json.dumps([each.as_dict() for each in diagnosis.findings], indent=2) + "\n"
    write_text(path, text)


def _tell(done: "Repair") -> None:
    for change in done.changes:
        print(f"fixed: {change['file']}: {change['change']}")
    for case in done.left_out:
        print(f"left out: {case['case']}: {case['why'][0]}")
    if done.datalist.is_file():
        print(f"next: cellseg3d doctor {done.datalist}")

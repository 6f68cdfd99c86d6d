"""``cellseg3d report``: one page to look at, offline."""

from pathlib import Path
from typing import Annotated

import typer

from cellseg3d.cli.terminal.reading_options import SpacingUm


def command(
    run: Annotated[
        Path | None,
        typer.Argument(help="A folder of `cellseg3d train` or `benchmark`."),
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="The page to write; report.html in the run if unset."),
    ] = None,
    prediction: Annotated[
        list[str] | None,
        typer.Option(
            help="A predicted label file, several times for several, or a folder of "
            "them, such as that of `predict --out`."
        ),
    ] = None,
    truth: Annotated[
        list[str] | None,
        typer.Option(
            help="Its truth, in the same order as --prediction; for a folder, a folder."
        ),
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="The image it was predicted from.")
    ] = None,
    probs: Annotated[
        list[str] | None,
        typer.Option(
            help="Probabilities, for calibration: a file, or the folder of "
            "`predict --probs`."
        ),
    ] = None,
    objects: Annotated[
        bool | None,
        typer.Option(
            "--objects/--labels",
            help="Whether values are object ids; told from their number if unset.",
        ),
    ] = None,
    classes: Annotated[
        str, typer.Option(help="Class names by value, such as background,cell,nucleus.")
    ] = "",
    datalist: Annotated[
        str | None,
        typer.Option(
            help="Take class names and label map from it; the run's if unset."
        ),
    ] = None,
    spacing_um: SpacingUm = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
) -> None:
    """Write one HTML file that opens without a server or a network."""
    from cellseg3d.core.spacing import Spacing  # noqa: PLC0415
    from cellseg3d.datasets.datalist import load_datalist  # noqa: PLC0415
    from cellseg3d.io.ownership import check_outputs  # noqa: PLC0415
    from cellseg3d.report.benchmark_folder import (  # noqa: PLC0415
        is_benchmark,
        read_benchmark,
    )
    from cellseg3d.report.folders import locate  # noqa: PLC0415
    from cellseg3d.report.inputs import open_volumes  # noqa: PLC0415
    from cellseg3d.report.page import ReportInput, write_report  # noqa: PLC0415
    from cellseg3d.report.run_folder import read_run  # noqa: PLC0415

    benchmark = read_benchmark(run) if run and is_benchmark(run) else None
    record = read_run(run) if run and benchmark is None else None
    place = datalist or (record.datalist if record else None)
    cases = load_datalist(place) if place else None
    names = [name.strip() for name in classes.split(",") if name.strip()]
    shown = names or (cases.classes if cases else ())
    located = locate(
        prediction or [],
        truth or [],
        image or [],
        probs or [],
        datalist=cases,
        ids=bool(objects),
    )
    target = out or (run / "report.html" if run else Path("report.html"))
    check_outputs([target], [file for each in located for file in each.files])
    given = ReportInput(
        run=record,
        benchmark=benchmark,
        volumes=open_volumes(
            located,
            datalist=None if objects else cases,
            classes=shown,
            spacing=None if spacing_um is None else Spacing.of(spacing_um),
        ),
        ids=objects,
        classes=names if objects else shown,
        title=title,
    )
    size = write_report(given, target)
    print(f"{target}: {size / 1e6:.1f} MB")

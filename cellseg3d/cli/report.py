"""``cellseg3d report``: write an HTML page about a run, a benchmark or predictions."""

from pathlib import Path
from typing import Annotated

import typer

from cellseg3d.cli.terminal.reading_options import (
    Channel,
    Classes,
    SpacingUm,
    TruthMap,
    class_names,
    value_map,
)


def command(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            help="The run folder of `cellseg3d train`, or the folder of `cellseg3d "
            "benchmark`.",
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the page to this file; by default, to report.html in RUN."
        ),
    ] = None,
    prediction: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABELS",
            help="Show these predicted labels: a file, or a folder such as that of "
            "`cellseg3d predict --out`. Give the option once for each file.",
        ),
    ] = None,
    truth: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABELS",
            help="Compare with these true labels: files in the order of --prediction, "
            "or a folder.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE",
            help="Draw the labels over these images: files in the order of "
            "--prediction, or a folder.",
        ),
    ] = None,
    channel: Channel = None,
    probs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROBS",
            help="Show how well calibrated these probabilities are: a file, or the "
            "folder of `cellseg3d predict --probs`.",
        ),
    ] = None,
    objects: Annotated[
        bool | None,
        typer.Option(
            "--objects/--labels",
            help="Say that the values are ids of objects, or classes. By default, "
            "the file or the number of its values decides.",
        ),
    ] = None,
    classes: Classes = "",
    truth_map: TruthMap = None,
    datalist: Annotated[
        str | None,
        typer.Option(
            help="Take class names, label map, channels and the files that belong to "
            "the predictions from this datalist; by default, from that of RUN.",
        ),
    ] = None,
    spacing_um: SpacingUm = None,
    title: Annotated[str, typer.Option(help="Give the page this title.")] = "",
) -> None:
    """Write an HTML page about a run, benchmark or prediction.

    The page is one file that opens without a server or a network.
    """
    from cellseg3d.core.spacing import Spacing  # noqa: PLC0415
    from cellseg3d.datasets.datalist import load_datalist  # noqa: PLC0415
    from cellseg3d.io.fingerprint import unchanged  # noqa: PLC0415
    from cellseg3d.io.output.ownership import check_outputs  # noqa: PLC0415
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
    names = class_names(classes)
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
    with unchanged([file for each in located for file in each.files]):
        given = ReportInput(
            run=record,
            benchmark=benchmark,
            volumes=open_volumes(
                located,
                datalist=cases,
                ids=bool(objects),
                classes=shown,
                channel=channel,
                truth_map=value_map(truth_map, "--map"),
                spacing=None if spacing_um is None else Spacing.of(spacing_um),
            ),
            ids=objects,
            classes=names if objects else shown,
            title=title,
        )
        size = write_report(given, target)
    print(f"{target}: {size / 1e6:.1f} MB")

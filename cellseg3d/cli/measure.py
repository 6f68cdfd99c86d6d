"""``cellseg3d measure``: measure every object of a file of labels."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg3d.cli.terminal.reading_options import (
    Channel,
    Classes,
    SpacingUm,
    class_names,
)
from cellseg3d.core.words import counted

if TYPE_CHECKING:
    from rich.table import Table

    from cellseg3d.scoring.measure import Measurement

SUMMARY = {
    "n": "objects",
    "n_touching_border": "at border",
    "volume_um3_mean": "volume um^3",
    "volume_um3_sd": "sd",
    "surface_area_um2_mean": "surface um^2",
    "sphericity_mean": "sphericity",
    "elongation_mean": "elongation",
    "mean_intensity_mean": "intensity",
}
IN_PARENT = {
    "n": "objects",
    "total_volume_um3": "total um^3",
    "volume_um3_mean": "volume um^3",
    "share_of_parent": "share of parent",
}
MOST_ROWS = 30


def command(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS", help="A file of object ids, 0 outside of objects."
        ),
    ],
    *,
    image: Annotated[
        Path | None,
        typer.Option(
            help="Also measure mean and standard deviation of the intensity (LAC) in "
            "this image."
        ),
    ] = None,
    channel: Channel = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="TABLE",
            help="Write the table to this .csv or .parquet file; give the option twice "
            "for both. By default, NAME_objects.csv in the current folder.",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write summaries and objects to this JSON file.")
    ] = None,
    components: Annotated[
        bool,
        typer.Option(
            "--components",
            help="Say that the values are classes, and take their connected pieces "
            "for objects.",
        ),
    ] = False,
    class_labels: Annotated[
        Path | None,
        typer.Option(help="Take the class of each object from this volume of classes."),
    ] = None,
    classes: Classes = "",
    parents: Annotated[
        Path | None,
        typer.Option(
            help="Assign each object to the parent that it lies in: this file holds "
            "the ids of the parents, such as cells."
        ),
    ] = None,
    cells: Annotated[
        bool,
        typer.Option(
            "--cells",
            help="Take the connected pieces of all labels above 0 for the parents.",
        ),
    ] = False,
    spacing_um: SpacingUm = None,
) -> None:
    """Measure volume, surface, shape and place of every object.

    Intensities and parents are measured if they are given. Lengths are in um. If
    neither the file nor --spacing-um states a spacing, lengths are left empty, and
    shapes are measured as if voxels were cubes.
    """
    from cellseg3d.core.spacing import Spacing  # noqa: PLC0415
    from cellseg3d.datasets.cases import case_stem  # noqa: PLC0415
    from cellseg3d.io.fingerprint import unchanged  # noqa: PLC0415
    from cellseg3d.io.output.ownership import check_outputs  # noqa: PLC0415
    from cellseg3d.scoring import measure_tables as tables  # noqa: PLC0415
    from cellseg3d.scoring.measure import MeasureOptions, measure_file  # noqa: PLC0415

    paths = out or [Path(f"{case_stem(str(labels))}_objects.csv")]
    given = (labels, image, class_labels, parents)
    check_outputs([*paths, *([json] if json else [])], [each for each in given if each])
    for path in paths:
        tables.check_suffix(path)
    options = MeasureOptions(
        image=_text(image),
        channel=channel,
        classes=class_names(classes),
        class_labels=_text(class_labels),
        components=components,
        parents=_text(parents),
        cells=cells,
        spacing=None if spacing_um is None else Spacing.of(spacing_um),
    )
    with unchanged([each for each in given if each]):
        measurement = measure_file(str(labels), options)
    for path in paths:
        tables.write_table(measurement.objects, path)
    if json is not None:
        tables.write_measurement_json(measurement, json)
    _show(measurement, paths)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _show(measurement: "Measurement", paths: Sequence[Path]) -> None:
    from cellseg3d.cli.terminal.console import table_console  # noqa: PLC0415

    console = table_console()
    spacing = measurement.spacing or "unknown, so lengths are empty; give --spacing-um"
    console.print(f"{measurement.name}: spacing {spacing}", markup=False)
    console.print(_table("Objects by class", SUMMARY, measurement.by_class))
    if measurement.by_parent:
        shown = measurement.by_parent[:MOST_ROWS]
        console.print(_table("Objects by parent (0: no parent)", IN_PARENT, shown))
        if len(measurement.by_parent) > MOST_ROWS:
            more = counted(len(measurement.by_parent) - MOST_ROWS, "row")
            console.print(f"... and {more} more")
    for path in paths:
        count = len(measurement.objects["id"])
        said = f"{counted(count, 'object')} in {path}"
        console.print(said, markup=False, soft_wrap=True)


def _table(
    title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
) -> "Table":
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    keys = [key for key in ("parent", "class") if rows and key in rows[0]]
    present = {key: name for key, name in columns.items() if rows and key in rows[0]}
    for heading in keys:
        table.add_column(heading)
    for heading in present.values():
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [_number(row[key]) for key in present]
        table.add_row(*(str(row[key]) for key in keys), *cells)
    return table


def _number(value: Any) -> str:  # noqa: ANN401 - any measure
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)

"""Write measurements as CSV, Parquet and JSON."""

import csv
import json
import math
from pathlib import Path
from typing import Any

from cellseg3d.core.atomic import atomic_write, write_text
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.extras import missing_extra
from cellseg3d.metrics.morphometry import Table
from cellseg3d.scoring.measure import Measurement
from cellseg3d.scoring.report import as_cell, plain_numbers

SUFFIXES = (".csv", ".parquet")
_ROWS_AT_ONCE = 100_000


def check_suffix(path: Path) -> None:
    """Refuse a file name that does not end in a known table format.

    Raises
    ------
    ConfigError
        If the suffix is neither ``.csv`` nor ``.parquet``.
    """
    if path.suffix.lower() not in SUFFIXES:
        message = f"{path}: is no known table format; end the name in .csv or .parquet"
        raise ConfigError(message)


def write_table(table: Table, path: Path) -> None:
    """Write one row for each object, as CSV or Parquet by the file's suffix.

    Raises
    ------
    ConfigError
        If the suffix is neither.
    EnvironmentFault
        If Parquet is asked for and pyarrow is not installed.
    """
    check_suffix(path)
    write = _write_parquet if path.suffix.lower() == ".parquet" else _write_csv
    atomic_write(path, lambda new: write(table, new))


def write_measurement_json(measurement: Measurement, path: Path) -> None:
    """Write summaries and objects as JSON; undefined numbers become null."""
    spacing = measurement.spacing
    names = list(measurement.objects)
    columns = [measurement.objects[name].tolist() for name in names]
    values: dict[str, Any] = {
        "labels": measurement.name,
        "n": len(measurement.objects["id"]),
        "spacing_um": list(spacing.zyx) if spacing else None,
        "intensity_unit": measurement.intensity_unit,
        "classes": measurement.by_class,
        "parents": measurement.by_parent,
        "objects": [
            dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)
        ],
    }
    text = json.dumps(plain_numbers(values), indent=1, allow_nan=False) + "\n"
    write_text(path, text)


def _write_csv(table: Table, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        for start in range(0, len(table["id"]), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            columns = [_cells(column[part].tolist()) for column in table.values()]
            writer.writerows(zip(*columns, strict=True))


def _cells(values: list[Any]) -> list[Any]:
    """Return values as cells of a CSV file: nine digits, empty if undefined."""
    if values and isinstance(values[0], float):
        return ["" if math.isnan(value) else f"{value:.9g}" for value in values]
    return [as_cell(value) for value in values]


def _write_parquet(table: Table, path: Path) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(f"{path}: Parquet needs pyarrow", "objects") from error
    parquet.write_table(pa.table(dict(table)), path)

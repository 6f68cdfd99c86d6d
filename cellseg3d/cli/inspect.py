"""``cellseg3d inspect``: check whole volumes and show what they hold."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellseg3d.cli.terminal.reading_options import (
    Channel,
    Channels,
    Inner,
    Level,
    ReadAs,
    SpacingUm,
    Time,
    several,
)
from cellseg3d.cli.terminal.wording import line_of, worded
from cellseg3d.core.errors import CellSegError, ConfigError

if TYPE_CHECKING:
    from cellseg3d.core.volume import Volume
    from cellseg3d.io.check import Findings


def _png_name(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() != ".png":
        raise ConfigError(f"--png {path}: expected a file name that ends in .png")
    return path


def command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="The volumes to check, or folders of slices or of volumes; "
            "file.h5::raw names a dataset.",
        ),
    ],
    *,
    png: Annotated[
        Path | None,
        typer.Option(
            callback=_png_name,
            help="Draw the three middle slices of each volume into this PNG file.",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the table to this JSON file.")
    ] = None,
    inner: Inner = None,
    level: Level = 0,
    spacing_um: SpacingUm = None,
    channel: Channel = None,
    channels: Channels = None,
    time: Time = None,
    read_as: ReadAs = None,
    require_complete: Annotated[
        bool,
        typer.Option(
            "--require-complete",
            help="Report missing chunks of Zarr and HDF5 arrays as an error, not as a "
            "warning.",
        ),
    ] = False,
) -> None:
    """Check whole volumes and show what they hold.

    The table shows shape, spacing, unit, range and label values. A file that is
    incomplete, damaged or not of the format of its name, or that holds NaN or several
    volumes, is reported in one line with the cause; the exit code is then 2.
    """
    from cellseg3d.cli.terminal.reading_bar import progress  # noqa: PLC0415
    from cellseg3d.io.check import check_volume  # noqa: PLC0415
    from cellseg3d.io.listing import volumes_at  # noqa: PLC0415
    from cellseg3d.io.output.ownership import check_outputs  # noqa: PLC0415

    found: list[Findings] = []
    code = 0
    for word in paths:
        try:
            names = volumes_at(word)
        except CellSegError as error:
            code = _report(error, code)
            continue
        check_outputs([each for each in (json, png) if each], names)
        for name in names:
            try:
                with progress(f"reading {name}") as on_part:
                    findings = check_volume(
                        name,
                        inner=inner,
                        level=level,
                        spacing=spacing_um,
                        channel=channel,
                        channels=several(channels),
                        time=time,
                        read_as=read_as,
                        require_complete=require_complete,
                        on_part=on_part,
                    )
            except CellSegError as error:
                code = _report(error, code)
            else:
                found.append(findings)
    if found:
        _show(found)
    if json is not None:
        _write_json(found, json)
    if png is not None and found:
        _write_png(found, png)
    if code:
        raise typer.Exit(code)


def _report(error: CellSegError, code: int) -> int:
    """Print an error; return the smallest exit code of this and earlier errors."""
    print(f"error: {line_of(error)}", file=sys.stderr)
    return min(code, error.exit_code) if code else error.exit_code


def _show(found: "list[Findings]") -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("volume", "format", "shape z,y,x", "dtype", "spacing um z,y,x"):
        table.add_column(title, overflow="fold")
    for title in ("unit", "range", "label values"):
        table.add_column(title, overflow="fold")
    for findings in found:
        volume = findings.volume
        spacing = "unknown"
        if volume.spacing is not None:
            spacing = " x ".join(f"{edge:.6g}" for edge in volume.spacing.zyx)
        simulated = " (simulated)" if volume.provenance.get("simulated") else ""
        axes = volume.provenance.get("axes", "ZYX")
        table.add_row(
            escape(_name(findings)),
            f"{volume.provenance.get('format')} {axes}{_channels(volume)}",
            " x ".join(map(str, volume.shape)),
            str(volume.dtype),
            spacing,
            f"{volume.intensity_unit}{simulated}",
            f"{findings.smallest:.6g} .. {findings.largest:.6g}",
            _labels(findings),
        )
    console = Console()
    if not console.is_terminal:  # a log file has room for the whole table
        console = Console(width=200)
    console.print(table)
    for findings in found:
        told = findings.volume.provenance.get("told", ())
        lines = [f"{_name(findings)}: {sentence}" for sentence in told]
        lines += [f"warning: {_name(findings)}: {each}" for each in findings.warnings]
        for line in map(worded, lines):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _name(findings: "Findings") -> str:
    inner = findings.volume.provenance.get("inner")
    name = findings.volume.name
    return f"{name}::{inner}" if inner and "Zarr" not in _format(findings) else name


def _format(findings: "Findings") -> str:
    return str(findings.volume.provenance.get("format", ""))


def _channels(volume: "Volume") -> str:
    """Return the channels that are read, if there are several or they have names."""
    if volume.channel_names:
        return f" ({', '.join(volume.channel_names)})"
    return f" ({volume.channels} channels)" if volume.channels > 1 else ""


def _labels(findings: "Findings") -> str:
    counts = findings.label_counts
    if counts is None:
        return "-"
    values = sorted(counts)
    shown = ", ".join(map(str, values[:10]))
    return shown if len(values) <= 10 else f"{shown}, ... ({len(values)} values)"


def _write_json(found: "list[Findings]", path: Path) -> None:
    import json  # noqa: PLC0415

    from cellseg3d.core.atomic import write_text  # noqa: PLC0415

    text = json.dumps([_facts(findings) for findings in found], indent=2) + "\n"
    write_text(path, text)


def _facts(findings: "Findings") -> dict[str, Any]:
    volume = findings.volume
    counts = findings.label_counts
    return {
        "path": volume.name,
        "inner": volume.provenance.get("inner"),
        "format": _format(findings),
        "axes_in_file": volume.provenance.get("axes", "ZYX"),
        "axes": "ZYX",
        "channels": [
            volume.channel_called(number) for number in range(volume.channels)
        ],
        "shape": list(volume.shape),
        "dtype": str(volume.dtype),
        "spacing_um": None if volume.spacing is None else list(volume.spacing.zyx),
        "intensity_unit": volume.intensity_unit,
        "simulated": bool(volume.provenance.get("simulated", False)),
        "range": [findings.smallest, findings.largest],
        "label_counts": (
            None
            if counts is None
            else {str(key): counts[key] for key in sorted(counts)}
        ),
        "warnings": list(findings.warnings),
    }


def _write_png(found: "list[Findings]", path: Path) -> None:
    from cellseg3d.core.atomic import atomic_write  # noqa: PLC0415
    from cellseg3d.io.output.contact_sheet import contact_sheet  # noqa: PLC0415

    rows = [(_name(each), each.volume, each.label_counts is not None) for each in found]
    sheet = contact_sheet(rows)
    atomic_write(path, lambda target: sheet.save(target, "PNG"))

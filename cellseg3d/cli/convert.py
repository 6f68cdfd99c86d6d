"""``cellseg3d convert``: write a volume in another file format."""

from pathlib import Path
from typing import Annotated

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
from cellseg3d.cli.terminal.wording import worded
from cellseg3d.core.errors import ConfigError


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN", help="The volume to read; file.h5::raw names a dataset."
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The file to write. Its suffix chooses the format: .tif .ome.tif "
            ".nii .nii.gz .mrc .h5 .zarr .png; a name without a suffix makes a folder "
            "of PNG slices.",
        ),
    ],
    *,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels",
            help="Say that the values are labels: write them as the smallest integer "
            "type that holds them.",
        ),
    ] = False,
    spacing_um: SpacingUm = None,
    inner: Inner = None,
    level: Level = 0,
    channel: Channel = None,
    channels: Channels = None,
    time: Time = None,
    read_as: ReadAs = None,
    ome_zarr: Annotated[
        str, typer.Option(metavar="0.5|0.4", help="Write this version of OME-Zarr.")
    ] = "0.5",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT if it exists.")
    ] = False,
) -> None:
    """Write a volume in another file format.

    Values, spacing and unit stay the same. The file is checked first, as `cellseg3d
    inspect` does, and copied part by part, so that it may be larger than memory.
    """
    from cellseg3d.cli.terminal.reading_bar import progress  # noqa: PLC0415
    from cellseg3d.io.check import check_volume  # noqa: PLC0415
    from cellseg3d.io.fingerprint import unchanged  # noqa: PLC0415
    from cellseg3d.io.output.ownership import check_outputs, check_replaceable  # noqa: PLC0415
    from cellseg3d.io.registry import write_labels, write_volume  # noqa: PLC0415

    if ome_zarr not in ("0.4", "0.5"):
        raise ConfigError(f"--ome-zarr {ome_zarr}: expected 0.5 or 0.4")
    check_outputs([target], [source])
    check_replaceable(target)
    _refuse_existing(target, overwrite=overwrite)
    with progress(f"reading {source}") as on_part:
        findings = check_volume(
            source,
            inner=inner,
            level=level,
            spacing=spacing_um,
            channel=channel,
            channels=several(channels),
            time=time,
            read_as=read_as,
            labels=labels,
            on_part=on_part,
        )
    # Reading can take long, and another process may have written meanwhile.
    _refuse_existing(target, overwrite=overwrite)
    write = write_labels if labels else write_volume
    with unchanged([source]):
        written = write(
            target, findings.volume, ome_zarr="0.4" if ome_zarr == "0.4" else "0.5"
        )
    volume = findings.volume
    spacing = "spacing unknown" if volume.spacing is None else str(volume.spacing)
    print(f"{written}: {' x '.join(map(str, volume.shape))} (z, y, x), {spacing}")
    for sentence in volume.provenance.get("told", ()):
        print(f"{source}: {sentence}")
    for warning in findings.warnings:
        print(worded(f"warning: {source}: {warning}"))


def _refuse_existing(target: Path, *, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise ConfigError(f"{target}: already exists; give --overwrite to replace it")

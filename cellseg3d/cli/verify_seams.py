"""``cellseg3d verify-seams``: measure how much borders of windows change labels."""

from pathlib import Path
from typing import Annotated

import typer

from cellseg3d.cli.terminal.acceleration import AccelerationOption
from cellseg3d.cli.terminal.reading_options import (
    Channel,
    Channels,
    SpacingUm,
    Time,
    several,
)


def command(
    volume: Annotated[
        str, typer.Argument(metavar="VOLUME", help="A volume like those to segment.")
    ],
    *,
    bundle: Annotated[
        Path,
        typer.Option(
            help="Use this trained network: a bundle's name or folder, or a run of "
            "`cellseg3d train`."
        ),
    ],
    axes: Annotated[
        str | None,
        typer.Option(
            help="Let a 2D or 2.5D network segment the slices across each of these "
            "axes, such as zyx."
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Compute in float32, bfloat16 or auto. In float32, rounding does not "
            "add to the difference."
        ),
    ] = "float32",
    acceleration: AccelerationOption = "auto",
    size: Annotated[
        int,
        typer.Option(help="Compare a cube of this side, in voxels, in the middle."),
    ] = 160,
    bound: Annotated[
        float, typer.Option(help="Fail if a probability differs by more than this.")
    ] = 0.02,
    spacing_um: SpacingUm = None,
    channel: Channel = None,
    channels: Channels = None,
    time: Time = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the result to this JSON file.")
    ] = None,
) -> None:
    """Measure how much the borders of windows change labels.

    A volume is segmented in windows, which overlap by a halo. The middle of the volume
    is segmented in windows and in one piece, and the two results are compared: the
    largest difference of a probability, its place, and the share of labels that
    change. The exit code is 2 if the difference exceeds the bound.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from cellseg3d.bundle.model import load_model  # noqa: PLC0415
    from cellseg3d.calibration.halo import verify_seams  # noqa: PLC0415
    from cellseg3d.io.output.ownership import check_outputs  # noqa: PLC0415
    from cellseg3d.prediction.batch import write_report  # noqa: PLC0415
    from cellseg3d.prediction.opening import open_for  # noqa: PLC0415

    if json is not None:
        check_outputs([json], [volume])
    model = load_model(bundle)
    opened = open_for(
        volume,
        [model],
        spacing=spacing_um,
        channel=channel,
        channels=several(channels),
        time=time,
    )
    found = verify_seams(
        opened,
        model,
        precision=precision,
        acceleration=acceleration,
        axes=axes,
        limit=size**3,
    )
    for seams in found:
        z, y, x = seams.place_zyx
        print(
            f"{seams.source}: with a halo of {seams.halo} voxels, a probability "
            f"differs by at most {seams.difference:.2g}, at (z={z}, y={y}, x={x}) of "
            f"the compared part; {seams.changed:.2%} of the labels change"
        )
    if json is not None:
        write_report(json, [{"volume": volume, **asdict(seams)} for seams in found])
    worst = max(seams.difference for seams in found)
    if worst > bound:
        print(
            f"the difference exceeds the bound of {bound}; give the bundle a wider halo"
        )
        raise typer.Exit(2)

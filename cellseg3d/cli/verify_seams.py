"""``cellseg3d verify-seams``: measure what the seams between windows cost."""

from pathlib import Path
from typing import Annotated

import typer

from cellseg3d.cli.terminal.acceleration import AccelerationOption


def command(
    volume: Annotated[str, typer.Argument(help="A volume of your own.")],
    *,
    bundle: Annotated[Path, typer.Option(help="A bundle or a run of train.")],
    axes: Annotated[
        str | None, typer.Option(help="Axes that slices are cut across, such as zyx.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32 shows the seams alone; or bfloat16, auto.")
    ] = "float32",
    acceleration: AccelerationOption = "auto",
    size: Annotated[
        int, typer.Option(help="Side of the cube in the middle that is compared.")
    ] = 160,
    bound: Annotated[
        float, typer.Option(help="Fail when a probability differs by more.")
    ] = 0.02,
    spacing_um: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="Z Y X", help="Voxel edges where the file has none."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures.")] = None,
) -> None:
    """Compare windows with one pass over the middle of a volume.

    Prints the largest difference of a probability, where it lies, and the part of the
    labels that change. Exit code 2 when the difference exceeds the bound.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from cellseg3d.bundle.model import load_model  # noqa: PLC0415
    from cellseg3d.calibration.halo import verify_seams  # noqa: PLC0415
    from cellseg3d.io.ownership import check_outputs  # noqa: PLC0415
    from cellseg3d.io.registry import open_volume  # noqa: PLC0415
    from cellseg3d.prediction.batch import write_report  # noqa: PLC0415

    if json is not None:
        check_outputs([json], [volume])
    found = verify_seams(
        open_volume(volume, spacing=spacing_um),
        load_model(bundle),
        precision=precision,
        acceleration=acceleration,
        axes=axes,
        limit=size**3,
    )
    for seams in found:
        z, y, x = seams.place_zyx
        print(
            f"{seams.source}: halo {seams.halo}, largest difference "
            f"{seams.difference:.2g} at (z={z}, y={y}, x={x}) of the compared part, "
            f"{seams.changed:.2%} of the labels change"
        )
    if json is not None:
        write_report(json, [{"volume": volume, **asdict(seams)} for seams in found])
    worst = max(seams.difference for seams in found)
    if worst > bound:
        print(f"above the bound of {bound}: give the bundle a wider halo")
        raise typer.Exit(2)

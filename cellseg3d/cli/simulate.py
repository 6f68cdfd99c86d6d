"""``cellseg3d simulate``: simulate tomograms or two stains of cells, with labels."""

import json as json_text
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import ConfigError

if TYPE_CHECKING:
    from cellseg3d.simulate.acquisition import Scan


def command(
    out: Annotated[Path, typer.Option(help="Write the data set to this folder.")],
    *,
    n: Annotated[int, typer.Option("--n", min=1, help="Simulate this many cells.")] = 4,
    shape: Annotated[
        str,
        typer.Option(
            help="Make volumes of this many voxels: one number for a cube, or Z,Y,X."
        ),
    ] = "128",
    seed: Annotated[
        int,
        typer.Option(min=0, help="Simulate the cells of this seed, always the same."),
    ] = 0,
    voxel_um: Annotated[
        float,
        typer.Option(
            help="Give voxels this edge in um; X-ray microscopes have 0.03 to 0.06. "
            "Slices of --stains lie twice as far apart."
        ),
    ] = 0.05,
    mount: Annotated[
        Literal["capillary", "grid", "mixed"],
        typer.Option(
            help="Mount the cells in a capillary (full rotation), on a flat grid "
            "(missing wedge), or mixed: in turn on both."
        ),
    ] = "capillary",
    tilt_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="FIRST LAST",
            help="Tilt the specimen over this range in degrees, such as -60 60.",
        ),
    ] = None,
    tilt_step: Annotated[
        float | None,
        typer.Option(help="Tilt by this many degrees from one projection to the next."),
    ] = None,
    photons: Annotated[
        float | None,
        typer.Option(
            help="Expose each pixel and tilt to this many photons; fewer give more "
            "noise, 0 gives no photon noise."
        ),
    ] = None,
    test_cells: Annotated[
        int,
        typer.Option(
            min=0, help="Keep this many of the cells for testing, not for training."
        ),
    ] = 0,
    stains: Annotated[
        bool,
        typer.Option(
            "--stains",
            help="Simulate volumes of two stains, DAPI and actin, in place of "
            "tomograms; the objects that have both are labelled.",
        ),
    ] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write the table to this JSON file.")
    ] = None,
) -> None:
    """Simulate tomograms or two stains of cells, with labels.

    Each cell of a soft X-ray tomogram has a membrane, cytoplasm, a nucleus with
    chromatin, mitochondria, lipid droplets and vesicles. It is imaged as a microscope
    does it (tilt series, photon noise) and reconstructed. The folder then holds MRC
    volumes, MRC labels and datalist.json, ready for `cellseg3d train --data`. With
    --stains it holds OME-TIFF volumes and TIFF labels.
    """
    from cellseg3d.datasets.simulated import SimulationOptions, simulate_dataset  # noqa: PLC0415

    told = (tilt_range, tilt_step, photons)
    if stains and (mount != "capillary" or told != (None, None, None)):
        raise ConfigError(
            "--stains simulates a light microscope; leave out --mount, --tilt-range, "
            "--tilt-step and --photons, or leave out --stains"
        )
    scan = None
    if told != (None, None, None):
        scan = _scan(mount, tilt_range, tilt_step, photons)
    options = SimulationOptions(voxel_um, mount, scan, test_cells, stains)
    with _bar() as progress:
        path = simulate_dataset(out, n, _shape(shape), seed, options, progress=progress)
    _show(path, json)


def _scan(
    mount: str,
    tilt_range: tuple[float, float] | None,
    tilt_step: float | None,
    photons: float | None,
) -> "Scan":
    """Return the usual scan of a mount, with the changes that the user asks for."""
    from dataclasses import replace  # noqa: PLC0415

    from cellseg3d.simulate.acquisition import scan_for  # noqa: PLC0415

    if mount == "mixed":
        raise ConfigError(
            "--mount mixed uses the usual scan of each mount; leave out --tilt-range, "
            "--tilt-step and --photons, or choose one mount"
        )
    scan = scan_for(mount)
    return replace(
        scan,
        tilt_range_deg=scan.tilt_range_deg if tilt_range is None else tilt_range,
        tilt_step_deg=scan.tilt_step_deg if tilt_step is None else tilt_step,
        photons=scan.photons if photons is None else photons,
    )


def _shape(text: str) -> tuple[int, int, int]:
    """Return (Z, Y, X) from ``128`` or ``96,128,128``."""
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if len(parts) in (1, 3) and all(part.isdigit() for part in parts):
        z, y, x = (int(part) for part in parts * (3 if len(parts) == 1 else 1))
        return (z, y, x)
    raise ConfigError(
        f"--shape {text}: expected one number, or Z,Y,X such as 96,128,128"
    )


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yield a function of the cells done and of all cells."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("cells", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(path: Path, out: Path | None) -> None:
    """Print the true volumes of each cell's parts and where the data set lies."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    truth = json_text.loads((path.parent / "truth.json").read_text(encoding="utf-8"))
    cases = truth["cases"]
    names = list(next(iter(cases.values()))["volumes_um3"])
    table = Table(box=None, padding=(0, 1, 0, 0))
    about = [key for key in ("seed", "mount") if key in next(iter(cases.values()))]
    for heading in ("cell", *about):
        table.add_column(heading, no_wrap=True)
    for heading in names:
        table.add_column(heading, justify="right")
    for name, facts in cases.items():
        volumes = [f"{facts['volumes_um3'][part]:.3g}" for part in names]
        table.add_row(name, *(str(facts[key]) for key in about), *volumes)
    console = Console()
    console.print("true volumes in um^3", style="italic")
    console.print(table)
    console.print(f"wrote {path}", markup=False, soft_wrap=True)
    if out is not None:
        text = json_text.dumps({"datalist": str(path), **truth}, indent=2) + "\n"
        write_text(out, text)

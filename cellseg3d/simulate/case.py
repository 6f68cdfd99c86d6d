"""Simulate a tomogram and its true labels from a seed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from cellseg3d import __version__
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.roi import Zyx, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.simulate.acquisition import Scan, absorbance, record, scan_for
from cellseg3d.simulate.body import Mount
from cellseg3d.simulate.cell import Cell, build_cell, volumes_um3
from cellseg3d.simulate.fields import FloatArray
from cellseg3d.simulate.reconstruction import reconstruct

# In a smaller volume, nucleus and membrane leave no room for organelles.
SMALLEST = 24
# Peak memory per voxel, in bytes: coefficients, labels and working copies.
BYTES_PER_VOXEL = 24


@dataclass(frozen=True)
class SimulatedCase:
    """A simulated tomogram, its true labels and true measurements.

    Parameters
    ----------
    tomogram : Volume
        float32, shape (Z, Y, X), 1/um; as reconstructed.
    labels : Volume
        uint8, shape (Z, Y, X); values in `components.LABEL_NAMES`.
    volumes_um3 : dict of str to float
        True volume of each component.
    lac_per_um : dict of str to float
        True coefficient of each component.
    """

    tomogram: Volume
    labels: Volume
    volumes_um3: dict[str, float]
    lac_per_um: dict[str, float]


def simulate_case(
    shape: Sequence[int] | int,
    seed: int,
    spacing_um: float = 0.05,
    *,
    mount: Mount = "capillary",
    scan: Scan | None = None,
    workers: int | None = None,
    glass: bool = True,
) -> SimulatedCase:
    """Simulate a cell and its tomogram; equal seeds give equal results.

    Parameters
    ----------
    shape : three ints or one
        Shape (Z, Y, X), in voxels, at least 24 each; one number gives a cube.
    seed : int
        Seed of every random number, 0 or more.
    spacing_um : float
        Edge length of a voxel; soft X-ray tomograms have 0.03 to 0.06.
    mount : {"capillary", "grid"}
        Glass tube along y, or film across z. The tilt axis is y.
    scan : Scan, optional
        The tilt series; `scan_for(mount)` when None.
    workers : int, optional
        Number of threads, one per core when None; it does not change the result.
    glass : bool
        Whether a capillary's wall is in view.

    Raises
    ------
    ConfigError
        If shape, seed, spacing, mount or scan is not valid.
    EnvironmentFault
        If the simulation needs more memory than is available.

    Examples
    --------
    >>> import cellseg3d
    >>> cell = cellseg3d.simulate_case(24, seed=1, spacing_um=0.05)
    >>> cell.tomogram.shape, cell.tomogram.intensity_unit, cell.labels.dtype.name
    ((24, 24, 24), '1/um', 'uint8')
    """
    size = _checked(shape, seed, spacing_um, mount)
    chosen = scan_for(mount) if scan is None else scan
    _check_scan(chosen, mount)
    check_memory(BYTES_PER_VOXEL * int(np.prod(size)), f"simulating {list(size)}")
    for_cell, for_scan = np.random.SeedSequence(seed).spawn(2)
    rng = np.random.default_rng(for_cell)
    cell = build_cell(size, spacing_um, mount, rng, glass=glass)
    rays = absorbance(cell.lac, cell.layers_per_um, spacing_um, chosen, workers)
    rays = record(rays, chosen, for_scan)
    lac = reconstruct(rays, size[0], spacing_um, chosen, workers)
    return _case(cell, lac, seed, spacing_um, chosen)


def _case(
    cell: Cell, lac: FloatArray, seed: int, spacing_um: float, scan: Scan
) -> SimulatedCase:
    spacing = Spacing.of([spacing_um] * 3)
    notes = {
        "simulated": True,
        "generator": f"cellseg3d {__version__}",
        "seed": seed,
        "mount": cell.mount,
    }
    return SimulatedCase(
        tomogram=Volume(lac, spacing, "1/um", {**notes, **asdict(scan)}),
        labels=Volume(cell.labels, spacing, "arbitrary", notes),
        volumes_um3=volumes_um3(cell.labels, spacing_um),
        lac_per_um=dict(cell.palette.lac_per_um),
    )


def _checked(
    shape: Sequence[int] | int, seed: int, spacing_um: float, mount: str
) -> Zyx:
    size = zyx(shape)
    if min(size) < SMALLEST:
        message = f"shape is {list(size)}; expected at least {SMALLEST} voxels each"
        raise ConfigError(message)
    if seed < 0:
        raise ConfigError(f"seed is {seed}; expected 0 or more")
    if not 0.005 <= spacing_um <= 0.5:
        message = (
            f"voxel edge is {spacing_um:g} um; expected 0.03 to 0.06, "
            "at most 0.005 to 0.5"
        )
        raise ConfigError(message)
    if mount not in ("capillary", "grid"):
        raise ConfigError(f"mount is {mount!r}; expected 'capillary' or 'grid'")
    return size


def _check_scan(scan: Scan, mount: str) -> None:
    low, high = scan.tilt_range_deg
    if mount == "grid" and max(-low, high) > 80:
        message = (
            f"tilt range is {low:g} to {high:g} degrees; a flat grid allows -80 to 80, "
            "use the mount 'capillary' for more"
        )
        raise ConfigError(message)

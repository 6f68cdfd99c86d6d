"""The conditions under which tomograms are taken, each drawn or given by its name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from cellseg3d.core.roi import Zyx, zyx
from cellseg3d.simulate.acquisition import Scan
from cellseg3d.simulate.body import Mount
from cellseg3d.simulate.case import SimulatedCase, simulate_case


@dataclass(frozen=True)
class Condition:
    """How one tomogram is taken: mount, voxel, size, tilt series, what is in view.

    Parameters
    ----------
    shape : tuple of int
        Shape (Z, Y, X), in voxels.
    spacing_um : float
        Voxel edge.
    mount : {"capillary", "grid"}
    scan : Scan
        The tilt series.
    glass : bool
        Whether a capillary's wall is in view.
    scale : float
        What every coefficient is multiplied by, as an instrument with another energy
        or calibration does.
    """

    shape: Zyx = (80, 80, 80)
    spacing_um: float = 0.05
    mount: Mount = "capillary"
    scan: Scan = field(default_factory=Scan)
    glass: bool = True
    scale: float = 1.0


_LIMITED: Final = Scan(tilt_range_deg=(-60.0, 60.0), tilt_step_deg=1.0)
_FLAT: Final = Condition((64, 96, 96), mount="grid", scan=_LIMITED)
# Each differs from the usual scan of `cellseg3d simulate` in one thing, so that a score
# says what that thing costs.
NAMED: Final[Mapping[str, Condition]] = {
    "usual": Condition(),
    "limited tilt": Condition(scan=_LIMITED),
    "flat cell on a grid": _FLAT,
    "few photons": Condition(scan=Scan(photons=600.0)),
    "few tilts": Condition(scan=Scan(tilt_step_deg=4.0)),
    "blurred and drifting": Condition(scan=Scan(blur_pixels=1.2, drift_pixels=0.5)),
    "no glass in view": Condition(glass=False),
    "voxels of 30 nm": Condition((128, 128, 128), 0.03),
    "voxels of 60 nm": Condition((80, 80, 80), 0.06),
    "large cell": Condition((128, 128, 128)),
    "other instrument": Condition(scale=2.5),
}


def draw_condition(rng: np.random.Generator) -> Condition:
    """Draw a condition, every part by itself, wider than microscopes differ.

    Parameters
    ----------
    rng : numpy Generator
    """
    mount: Mount = "grid" if rng.random() < 0.35 else "capillary"
    spacing_um = float(rng.uniform(0.03, 0.06))
    # 3.4 to 7 um across, within what is simulated in a few seconds.
    side = int(np.clip(rng.uniform(3.4, 7.0) / spacing_um, 64, 144))
    longer = int(np.clip(side * rng.uniform(0.9, 1.3), 64, 144))
    shape = (side, longer, side)
    if mount == "grid":
        shape = (int(max(48, side * rng.uniform(0.5, 0.9))), side, side)
    limited = mount == "grid" or rng.random() < 0.4
    reach = float(rng.uniform(50, 72)) if limited else 90.0
    scan = Scan(
        tilt_range_deg=(-reach, reach),
        tilt_step_deg=float(rng.uniform(1.0, 3.0)),
        photons=float(np.exp(rng.uniform(np.log(500), np.log(20000)))),
        blur_pixels=float(rng.uniform(0.3, 1.2)),
        drift_pixels=float(rng.uniform(0.0, 0.5)),
        flicker=float(rng.uniform(0.0, 0.02)),
        gain=float(rng.uniform(0.0, 0.006)),
    )
    glass = bool(rng.random() < 0.6)
    return Condition(zyx(shape), spacing_um, mount, scan, glass)


def simulate_under(
    condition: Condition, seed: int, workers: int | None = None
) -> SimulatedCase:
    """Simulate one cell and its tomogram under a condition.

    Parameters
    ----------
    condition : Condition
    seed : int
        The same seed and condition give the same tomogram.
    workers : int, optional
        Threads; one for each core when None. Changes no value.
    """
    case = simulate_case(
        condition.shape,
        seed,
        condition.spacing_um,
        mount=condition.mount,
        scan=condition.scan,
        workers=workers,
        glass=condition.glass,
    )
    if condition.scale == 1.0:
        return case
    scaled = case.tomogram.read() * np.float32(condition.scale)
    return replace(case, tomogram=replace(case.tomogram, array=scaled))

"""Write simulated volumes as a data set with labels, datalist and true sizes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from cellseg3d.core.atomic import environment_fault, write_text
from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.cases import Case, Datalist, Split
from cellseg3d.datasets.datalist import resolve_datalist, write_datalist
from cellseg3d.io.registry import write_labels, write_volume
from cellseg3d.simulate.acquisition import Scan
from cellseg3d.simulate.body import Mount
from cellseg3d.simulate.case import SimulatedCase, simulate_case
from cellseg3d.simulate.components import CLASSES, LABEL_MAP, LABEL_NAMES
from cellseg3d.simulate.stains import CLASSES as STAINED_CLASSES
from cellseg3d.simulate.stains import STAINS, StainedCase, simulate_stains

Progress = Callable[[int, int], None]
DATALIST = "datalist.json"
TRUTH = "truth.json"
LOCK = ".simulating.lock"


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """Options of a simulated data set, besides the number and shape of its volumes.

    Parameters
    ----------
    spacing_um : float
        Voxel edge, in um; for stains the edge along y and x, and twice that along z.
    mount : {"capillary", "grid", "mixed"}
        Where the cells lie; "mixed" alternates between capillary and grid.
    scan : Scan, optional
        The tilt series of every case; the mount's usual one when None.
    test_cases : int
        Number of cases, counted from the last, that get ``"split": "test"``; the others
        then get ``"training"``. With 0 no case gets a split.
    stains : bool
        Whether to simulate volumes of two stains (`simulate.stains`) instead of
        tomograms; `mount` and `scan` then mean nothing.

    Examples
    --------
    >>> from cellseg3d import SimulationOptions
    >>> options = SimulationOptions(mount="mixed")
    >>> options.mount_of(0), options.mount_of(1)
    ('capillary', 'grid')
    """

    spacing_um: float = 0.05
    mount: Literal["capillary", "grid", "mixed"] = "capillary"
    scan: Scan | None = None
    test_cases: int = 0
    stains: bool = False

    def mount_of(self, number: int) -> Mount:
        """Return where the cell of a case lies, given the number of the case."""
        if self.mount == "mixed":
            return "grid" if number % 2 else "capillary"
        return self.mount


def simulate_dataset(
    folder: Path | str,
    n: int,
    shape: Sequence[int] | int,
    seed: int = 0,
    options: SimulationOptions | None = None,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Path:
    """Simulate cells and write them as a data set; equal seeds give equal data sets.

    Each cell is a group of its own. The label files of tomograms keep every
    component's value (`components.LABEL_NAMES`); the datalist maps lipid droplets and
    vesicles to cytoplasm, so that the classes are background, cytoplasm, nucleus,
    mitochondrion. Volumes of two stains have the classes background and both.

    Parameters
    ----------
    folder : Path or str
        Created if it does not exist. Files of the same names are replaced.
    n : int
        Number of cells, at least 1.
    shape : three ints or one
        Shape (Z, Y, X), in voxels; one number means a cube.
    seed : int
        Cell i is simulated with seed + i, so the first cells do not depend on `n`.
    options : SimulationOptions, optional
        Spacing, mount and tilt series.
    progress : callable, optional
        Called with (cells done, number of cells), first with (0, n).
    workers : int, optional
        Number of threads; one for each core when None. It changes no value.

    Returns
    -------
    Path
        ``datalist.json``. Beside it lie ``cell_NNN.mrc`` (float32, 1/um),
        ``cell_NNN_labels.mrc`` and ``truth.json`` (volumes in um^3 and coefficients
        in 1/um of every component); of stains ``cell_NNN.ome.tif`` (uint16) and
        ``cell_NNN_labels.tif``.

    Raises
    ------
    ConfigError
        If `n`, `shape` or an option is out of range.
    EnvironmentFault
        If the folder cannot be written, or memory is short.

    Examples
    --------
    >>> import cellseg3d
    >>> datalist = cellseg3d.simulate_dataset("cells", 1, 24)
    >>> sorted(path.name for path in datalist.parent.iterdir())
    ['cell_000.mrc', 'cell_000_labels.mrc', 'datalist.json', 'truth.json']
    """
    chosen = options or SimulationOptions()
    if n < 1 or not 0 <= chosen.test_cases < n:
        message = (
            f"{n} cells with {chosen.test_cases} for testing; expected at least one "
            "cell, and one that is not for testing"
        )
        raise ConfigError(message)
    place = Path(folder)
    _make(place)
    if progress is not None:
        progress(0, n)
    cases, truths = [], {}
    for number in range(n):
        simulated: SimulatedCase | StainedCase
        if chosen.stains:
            simulated = simulate_stains(shape, seed + number, chosen.spacing_um)
        else:
            simulated = simulate_case(
                shape,
                seed + number,
                chosen.spacing_um,
                mount=chosen.mount_of(number),
                scan=chosen.scan,
                workers=workers,
            )
        name = f"cell_{number:03d}"
        cases.append(_write_case(place, name, simulated, _split(number, n, chosen)))
        truths[name] = _truth(simulated)
        if progress is not None:
            progress(number + 1, n)
    text = json.dumps({"simulated": True, "cases": truths}, indent=2) + "\n"
    write_text(place / TRUTH, text)
    path = place / DATALIST
    tomograms = not chosen.stains
    write_datalist(
        Datalist(
            name="simulated cells" if tomograms else "simulated stains",
            classes=CLASSES if tomograms else STAINED_CLASSES,
            label_map=dict(LABEL_MAP) if tomograms else None,
            cases=tuple(cases),
            intensity_unit="1/um" if tomograms else "arbitrary",
            path=path,
        ),
        path,
    )
    return path


def ensure_dataset(
    folder: Path | str,
    n: int = 4,
    shape: Sequence[int] | int = 96,
    seed: int = 0,
    options: SimulationOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Path:
    """Return a folder's datalist; simulate a data set first if the folder has none.

    Several processes may call this at once: one simulates, and the others wait. A data
    set that is already there stays, even if it was simulated with other options.

    Parameters
    ----------
    folder, n, shape, seed, options, progress
        As for `simulate_dataset`.

    Returns
    -------
    Path
        The datalist file.
    """
    place = Path(folder)
    found = _existing(place)
    if found is not None:
        return found
    _make(place)
    lock = _hold(place / LOCK)
    try:
        return _existing(place) or simulate_dataset(
            place, n, shape, seed, options, progress=progress
        )
    finally:
        lock.release()


def _existing(place: Path) -> Path | None:
    found = resolve_datalist(place) if place.exists() else place
    return found if found.is_file() else None


def _write_case(
    place: Path,
    name: str,
    simulated: SimulatedCase | StainedCase,
    split: Split | None,
) -> Case:
    if isinstance(simulated, StainedCase):
        volume, suffixes, channels = simulated.image, (".ome.tif", ".tif"), STAINS
    else:
        volume, suffixes, channels = simulated.tomogram, (".mrc", ".mrc"), None
    image, label = place / f"{name}{suffixes[0]}", place / f"{name}_labels{suffixes[1]}"
    write_volume(image, volume)
    write_labels(label, simulated.labels)
    return Case(name, str(image), str(label), name, split, channels=channels)


def _split(number: int, n: int, options: SimulationOptions) -> Split | None:
    if not options.test_cases:
        return None
    return "test" if number >= n - options.test_cases else "training"


def _truth(simulated: SimulatedCase | StainedCase) -> dict[str, object]:
    if isinstance(simulated, StainedCase):
        return {
            "seed": simulated.image.provenance["seed"],
            "label_values": {STAINED_CLASSES[1]: 1},
            "volumes_um3": simulated.volumes_um3,
        }
    return {
        "seed": simulated.tomogram.provenance["seed"],
        "mount": simulated.tomogram.provenance["mount"],
        "label_values": {name: value for value, name in LABEL_NAMES.items()},
        "volumes_um3": simulated.volumes_um3,
        "lac_per_um": simulated.lac_per_um,
    }


def _make(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise environment_fault(error, place) from error


def _hold(path: Path) -> FileLock:
    """Return an acquired lock; the system releases it when this process ends."""
    lock = FileLock(path)
    try:
        lock.acquire()
    except OSError as error:
        raise environment_fault(error, path) from error
    return lock

"""Calibrate the windows of a finished run and store the result in the run."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.bundle.model import load_model
from cellseg3d.bundle.windows import OWN, read_windows, store_windows
from cellseg3d.calibration.halo import BOUND, calibrate_halo
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import CellSegError, ConfigError
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.emptiness import empty_threshold
from cellseg3d.datasets.volumes import LoadedCase, LoadedFold
from cellseg3d.models.geometry import sees_window
from cellseg3d.runs.record import NAME

logger = logging.getLogger(__name__)
# A calibration uses two crops and takes about a minute on a laptop.
VOLUMES, CROP_VOXELS, SECONDS = 2, 96**3, 60.0


def settle_window(
    folder: Path, data: LoadedFold, *, seconds: float = SECONDS
) -> dict[str, Any]:
    """Calibrate the windows of a finished run and store the result in the run.

    The halo is the smallest one whose seams change no probability by more than
    `calibration.halo.BOUND`, measured on the validation volumes, or on training volumes
    if there are none. The threshold of ``--skip-empty`` comes from the training
    volumes. Values that the run's config gives are kept, but those of an earlier
    calibration are replaced. If the calibration fails, the result is a note and the
    training is not affected.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    data : LoadedFold
        The data that it was trained on.
    seconds : float
        After this time no further halo is tried.

    Returns
    -------
    dict
        The entry ``calibration`` of ``run.json``: bound, halo, halo_error, empty_below,
        volumes, notes, elapsed_s.
    """
    begun = time.monotonic()
    notes: list[str] = []
    cases = list((data.validation or data.training)[:VOLUMES])
    windows = read_windows(folder)
    threshold = empty_threshold(data.training)
    for name, window in windows.items():
        try:
            window.update(_halo(folder, name, window, cases, seconds / len(windows)))
        except CellSegError as error:
            notes.append(f"the halo was not calibrated: {error}")
        if window.get("empty_below") is None and threshold is not None:
            window["empty_below"] = threshold
    store_windows(folder, windows)
    found: dict[str, Any] = {
        "bound": BOUND,
        **_widest(list(windows.values())),
        "volumes": [case.name for case in cases],
        "notes": notes,
        "elapsed_s": round(time.monotonic() - begun, 3),
    }
    for note in notes:
        logger.warning("%s", note)
    record_in_run(folder, "calibration", found)
    return found


def _widest(windows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of the window with the largest error, for the record."""
    worst = max(windows, key=lambda window: window.get("halo_error") or 0.0)
    return {key: worst.get(key) for key in ("halo", "halo_error", "empty_below")}


def _halo(
    folder: Path,
    name: str,
    window: Mapping[str, Any],
    cases: list[LoadedCase],
    seconds: float,
) -> Mapping[str, Any]:
    """Return halo and halo_error; an empty mapping if the config gives the halo.

    Raises
    ------
    CellSegError
        If no halo keeps the bound, or it cannot be measured.
    """
    if window.get("halo") is not None and window.get("halo_error") is None:
        logger.info("%s: the halo is given in the config and is kept", folder)
        return {}
    model = load_model(folder)
    if name != OWN:
        [model] = [member for member in model.members if member.name == name]
    if sees_window(model.network):
        message = (
            f"{model.name}: its normalisation depends on the whole window, so windows "
            "are blended with any halo"
        )
        raise ConfigError(message)
    found = calibrate_halo(
        model, [volume_of(case) for case in cases], limit=CROP_VOXELS, seconds=seconds
    )
    return {key: found[key] for key in ("halo", "halo_error")}


def volume_of(case: LoadedCase) -> Volume:
    """Return the raw image of a case as a volume with its spacing."""
    return Volume(case.image, case.spacing, provenance={"path": case.name})


def record_in_run(folder: Path, key: str, found: Mapping[str, Any]) -> None:
    """Add a result that was measured after a training to its ``run.json``."""
    path = folder / NAME
    record = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps({**record, key: found}, indent=1) + "\n"
    write_text(path, text)

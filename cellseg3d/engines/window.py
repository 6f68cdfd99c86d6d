"""After a training, measure what its windows need and write it into the run."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import load_model
from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.errors import CellSegError, ConfigError
from cellseg3d.core.volume import Volume
from cellseg3d.data.emptiness import empty_threshold
from cellseg3d.data.volumes import LoadedCase, LoadedFold
from cellseg3d.engines.run_record import NAME
from cellseg3d.inference.geometry import sees_window
from cellseg3d.inference.halo import BOUND, calibrate_halo

logger = logging.getLogger(__name__)
# The window stands in each of them; predict reads the one of inference.
FILES = ("train", "inference", "evaluate")
# What a calibration may cost on a laptop: two crops, and about a minute.
VOLUMES, CROP_VOXELS, SECONDS = 2, 96**3, 60.0


def settle_window(
    folder: Path, data: LoadedFold, *, seconds: float = SECONDS
) -> dict[str, Any]:
    """Calibrate the windows of a finished run and store what was found.

    The halo is the least whose seams, on the validation volumes (training volumes
    without any), change no probability by more than `inference.halo.BOUND`; the
    threshold of ``--skip-empty`` comes from the training volumes. What the run's
    ``window`` says already stays, unless an earlier calibration said it. A fault
    costs the calibration, not the training: it becomes a note.

    Parameters
    ----------
    folder : Path
        The run.
    data : LoadedFold
        What it was trained on.
    seconds : float
        After this time no further halo is tried.

    Returns
    -------
    dict
        The ``calibration`` of ``run.json``: bound, halo, halo_error, empty_below,
        volumes, notes, elapsed_s.
    """
    begun = time.monotonic()
    notes: list[str] = []
    cases = list((data.validation or data.training)[:VOLUMES])
    window = dict(read_config(folder / "configs" / "inference.json")["window"])
    try:
        window |= _halo(folder, window, cases, seconds)
    except CellSegError as error:
        notes.append(f"halo not calibrated: {error}")
    if window.get("empty_below") is None:
        threshold = empty_threshold(data.training)
        if threshold is not None:
            window["empty_below"] = threshold
    store_window(folder, window)
    found: dict[str, Any] = {
        "bound": BOUND,
        **{key: window.get(key) for key in ("halo", "halo_error", "empty_below")},
        "volumes": [case.name for case in cases],
        "notes": notes,
        "elapsed_s": round(time.monotonic() - begun, 3),
    }
    for note in notes:
        logger.warning("%s", note)
    _record(folder, found)
    return found


def store_window(folder: Path, window: Mapping[str, Any]) -> None:
    """Write a window into all configs of a run folder that have one.

    Parameters
    ----------
    folder : Path
        A run or bundle.
    window : mapping
        What `inference.lattice.WindowPlan.parse` reads.
    """
    for name in FILES:
        path = folder / "configs" / f"{name}.json"
        if not path.is_file():
            continue
        config = read_config(path)
        if "window" in config and config["window"] != window:
            write_config(path, {**config, "window": dict(window)})


def _halo(
    folder: Path, window: Mapping[str, Any], cases: list[LoadedCase], seconds: float
) -> Mapping[str, Any]:
    """Return halo and halo_error; nothing where the halo was given.

    Raises
    ------
    CellSegError
        If there is no halo to be found.
    """
    if window.get("halo") is not None and window.get("halo_error") is None:
        logger.info("the halo of %s was given, and stays", folder)
        return {}
    model = load_model(folder)
    if sees_window(model.network):
        message = (
            f"{model.name}: its normalisation sees the whole window, so windows are "
            "blended whatever the halo"
        )
        raise ConfigError(message)
    volumes = [
        Volume(case.image, case.spacing, provenance={"path": case.name})
        for case in cases
    ]
    found = calibrate_halo(model, volumes, limit=CROP_VOXELS, seconds=seconds)
    return {key: found[key] for key in ("halo", "halo_error")}


def _record(folder: Path, found: Mapping[str, Any]) -> None:
    path = folder / NAME
    record = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps({**record, "calibration": found}, indent=1) + "\n"
    atomic_write(path, lambda new: _write(new, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

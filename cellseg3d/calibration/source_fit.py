"""Fit the weights of a bundle's sources and store them in the bundle."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.model import TrainedModel, load_model, networks_of
from cellseg3d.bundle.windows import OWN, read_windows, store_windows
from cellseg3d.calibration.learned_fusion import (
    SAMPLE,
    fit_weights,
    held_out_gain,
    sample_sources,
    together,
)
from cellseg3d.calibration.window import record_in_run, volume_of
from cellseg3d.core.errors import CellSegError, ConfigError
from cellseg3d.datasets.volumes import LoadedCase
from cellseg3d.prediction.field import VolumeField
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.prediction.setup import sources_of
from cellseg3d.prediction.source_weights import source_key

logger = logging.getLogger(__name__)
Answers = tuple[NDArray[np.float32], NDArray[np.uint8]]
# The keys of a window about fusion, which a new fit replaces.
KEYS = ("fusion", "fusion_gain")


def settle_fusion(
    folder: Path, cases: Sequence[LoadedCase], axes: str | None = None
) -> dict[str, Any]:
    """Fit the weights of a bundle's sources and store them in its windows.

    The result is also stored under ``fusion`` in the metadata and, in a run, in
    ``run.json``. If the fit fails, the result is a note and the bundle is unchanged.

    Parameters
    ----------
    folder : Path
        The folder of a run, or of a bundle with weights.
    cases : sequence of LoadedCase
        Validation volumes. None may have trained the bundle or be used to test it.
    axes : str, optional
        The axes that 2D and 2.5D networks sweep from now on. When None, those of their
        windows are kept.

    Returns
    -------
    dict
        ``sentence``, ``dice``, ``dice_equal``, ``gain``, ``gain_held_out`` (with
        weights fitted on the other volumes; None for a single volume), ``weights`` by
        source, and ``volumes``; or ``notes`` alone.
    """
    try:
        found = _fit_and_store(folder, cases, axes)
    except CellSegError as error:
        found = {"notes": [f"the fusion was not fitted: {error}"]}
        logger.warning("%s", found["notes"][0])
    if (folder / "run.json").is_file():
        record_in_run(folder, "fusion", found)
    return found


def _fit_and_store(
    folder: Path, cases: Sequence[LoadedCase], axes: str | None
) -> dict[str, Any]:
    model = load_model(folder)
    owners, parts = sample_model(model, cases, axes)
    names = [_named(owner) for owner in owners]
    learned = fit_weights(names, *together(parts))
    windows = read_windows(folder)
    gain = learned.dice - learned.dice_mean
    for owner, window in windows.items():
        rows = {
            key: list(row)
            for (name, key), row in zip(owners, learned.rows, strict=True)
            if name == owner
        }
        kept = {key: value for key, value in window.items() if key not in KEYS}
        letters = "".join(key for key in rows if len(key) == 1)
        swept = {"axes": letters} if letters else {}
        windows[owner] = {**kept, **swept, "fusion": rows, "fusion_gain": gain}
    store_windows(folder, windows)
    found = {
        "sentence": learned.sentence,
        "dice": learned.dice,
        "dice_equal": learned.dice_mean,
        "gain": gain,
        "gain_held_out": held_out_gain(names, parts),
        "weights": dict(zip(names, map(list, learned.rows), strict=True)),
        "volumes": [case.name for case in cases],
    }
    metadata = folder / "configs" / "metadata.json"
    write_config(metadata, {**read_config(metadata), "fusion": found})
    return found


def sample_model(
    model: TrainedModel, cases: Sequence[LoadedCase], axes: str | None = None
) -> tuple[list[tuple[str, str]], list[Answers]]:
    """Return the probabilities of each source of a model on labelled volumes.

    Parameters
    ----------
    model : TrainedModel
    cases : sequence of LoadedCase
    axes : str, optional
        The axes to sweep. When None, those of the windows are taken.

    Returns
    -------
    owners : list of (str, str)
        For each source its member (``""`` for one network) and its axis or ``"3d"``.
    parts : list of tuple of ndarray
        For each volume the probabilities (S, K, n), float32, and labels (n,), uint8.

    Raises
    ------
    ConfigError
        If the model has only one source, or no volume is labelled.
    """
    pairs = [(case, case.label) for case in cases if case.label is not None]
    if not pairs:
        message = (
            f"{model.name}: there is no validation volume to fit weights on; keep a "
            "labelled specimen back with `fold`, or with the split 'validation' in the "
            "datalist"
        )
        raise ConfigError(message)
    options = SegmentOptions(axes=axes)
    owners: list[tuple[str, str]] = []
    parts: list[Answers] = []
    for number, (case, label) in enumerate(pairs):
        field = VolumeField.measured(volume_of(case), model.intensity)
        found = [
            (network.name if model.members else OWN, source)
            for network in networks_of(model)
            for source in sources_of(network, field, options)
        ]
        owners = [(owner, source_key(source)) for owner, source in found]
        if len(owners) < 2:
            message = (
                f"{model.name}: has only one source, {_named(owners[0])}, so there are "
                "no weights to fit; give 2D and 2.5D networks several axes, such as zyx"
            )
            raise ConfigError(message)
        share = max(1, SAMPLE // len(pairs))
        sources = [source for _, source in found]
        parts.append(sample_sources(sources, label, share, seed=number))
    return owners, parts


def _named(owner: tuple[str, str]) -> str:
    name, key = owner
    if len(key) > 1:
        return name or "3D"
    return f"{name} along {key}" if name else f"axis {key}"

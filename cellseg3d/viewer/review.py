"""Correct pieces of slices and train on them, as `cellseg3d review` does."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.bundle.model import load_model
from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, read_labels, write_labels
from cellseg3d.review.merge import merge_reviews
from cellseg3d.review.pieces import Piece, Review
from cellseg3d.review.prepare import ReviewOptions, prepare_review
from cellseg3d.viewer.layers import LayerData, channel_layers, colours_of, layer_of

Progress = Callable[[int, int], None]
# Seconds that a training has to write its checkpoint when it is stopped.
GRACE_S = 120


def pick_pieces(
    layer: Any,  # noqa: ANN401 - a layer of napari
    bundle: str,
    out: Path,
    n: int,
    progress: Progress | None = None,
) -> Review:
    """Predict the file of a layer and write the pieces that are worth correcting.

    Parameters
    ----------
    layer : napari.layers.Image
        A layer that was opened from a file.
    bundle : str
        The network: a bundle's name or folder, or a run.
    out : Path
        The new folder of the review.
    n : int
        The number of pieces.
    progress : callable, optional
        As for `cellseg3d.segment`. If it raises an error, the work stops.

    Raises
    ------
    ConfigError
        If the layer does not come from a file.
    CellSegError
        As for `cellseg3d.review.prepare.prepare_review`.
    """
    path = layer.source.path
    if not path:
        message = f"{layer.name}: comes from no file; save it and open the file"
        raise ConfigError(message)
    models = [load_model(bundle)]
    return prepare_review([path], models, out, ReviewOptions(n), progress=progress)


def piece_layers(review: Review, piece: Piece) -> list[LayerData]:
    """Return a piece as an image for each channel, and the labels to correct, last."""
    image = open_volume(piece.image_file(review.folder), channels="all")
    labels = read_labels(piece.labels_file(review.folder))
    made = channel_layers(image, "piece")
    made.append(layer_of(labels, "labels to correct", "labels"))
    made[-1][1]["colormap"] = colours_of(256)
    return made


def save_piece(review: Review, piece: Piece, labels: NDArray[Any]) -> None:
    """Write the labels of a piece and mark it as seen.

    Parameters
    ----------
    review : Review
    piece : Piece
    labels : ndarray of integers, shape (1, rows, columns)
        Class indices; 255 is "not annotated".

    Raises
    ------
    ConfigError
        If a value is neither a class nor 255.
    """
    values = np.asarray(labels)
    foreign = sorted(
        set(np.unique(values).tolist()) - {*range(len(review.classes)), 255}
    )
    if foreign:
        known = ", ".join(f"{i} {name}" for i, name in enumerate(review.classes))
        message = (
            f"{piece.name}: holds the value {foreign[0]}; paint with {known}, or 255 "
            "for 'not annotated'"
        )
        raise ConfigError(message)
    path = piece.labels_file(review.folder)
    stored = read_labels(path)
    found = Volume(values.astype(np.uint8), stored.spacing, provenance={"labels": True})
    write_labels(path, found)
    review.mark_seen(piece.name)


def train_again(
    review: Review,
    bundle: str,
    out: Path,
    minutes: float,
    progress: Progress | None = None,
) -> Path:
    """Train a bundle on the pieces that were reviewed, and return the run.

    The training runs in a process of its own, so that the viewer stays responsive. If
    it is stopped, `cellseg3d train --resume` continues the run.

    Parameters
    ----------
    review : Review
    bundle : str
        The bundle or run whose weights the training begins with.
    out : Path
        The folder of the new run. The data set is written beside it, as ``OUT_data``.
    minutes : float
        Length of the training, in minutes.
    progress : callable, optional
        Is called each second with the seconds gone and the seconds of the training. If
        it raises an error, the training stops.

    Raises
    ------
    EnvironmentFault
        If the training fails. The message is that of the training.
    """
    data = out.with_name(f"{out.name}_data")
    merge_reviews([review.folder], data)
    command = train_command(bundle, data, out, minutes)
    return _followed(command, out, minutes, progress)


def train_command(bundle: str, data: Path, out: Path, minutes: float) -> list[str]:
    """Return the command that trains a bundle on reviewed pieces."""
    words = ["train", "--bundle", bundle, "--data", str(data), "--fold", "none"]
    words += ["--out", str(out), "--minutes", f"{minutes:g}", "--quiet"]
    return [sys.executable, "-m", "cellseg3d", *words]


def _followed(
    command: Sequence[str], out: Path, minutes: float, progress: Progress | None
) -> Path:
    """Wait for a training, second by second."""
    # S603: the words are ours, and no shell reads them.
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    gone = 0
    try:
        while process.poll() is None:
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                gone += 1
            if progress is not None:
                progress(gone, max(gone, round(60 * minutes)))
    except BaseException:
        process.terminate()
        process.wait(GRACE_S)
        raise
    if process.returncode:
        said = (process.stderr.read() if process.stderr else "").strip().splitlines()
        raise EnvironmentFault(said[-1] if said else f"{out}: the training failed")
    return out

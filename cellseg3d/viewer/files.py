"""Open files for napari: slices are read when they are shown, spacing is kept."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cellseg3d.core.memory import available_bytes
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, read_labels
from cellseg3d.viewer.layers import LayerData, layer_of

# The end of a name that stands for labels, as `cellseg3d predict` writes them.
LABELS = ("_label", "_labels", "_objects", "_ids")
# Labels can be painted in memory only; they may take this share of what is free.
SHARE = 0.25

Reader = Callable[[str | Sequence[str]], list[LayerData]]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return the function that opens files, or None for a list of them.

    Parameters
    ----------
    path : str or sequence of str
        What the user opens; napari asks for stacks of files with a sequence.
    """
    return read_layers if isinstance(path, str) else None


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Return the layer of a file: an image, or labels where its name says so.

    Parameters
    ----------
    path : str or sequence of str
        One file or folder of any format that cellseg3d reads.

    Raises
    ------
    CellSegError
        If it cannot be opened.
    """
    [file] = [path] if isinstance(path, str) else path
    name = Path(file).name
    stem = name.partition(".")[0]
    volume = open_volume(file, labels=stem.lower().endswith(LABELS))
    if not stem.lower().endswith(LABELS) or volume.dtype.kind not in "ui":
        return [layer_of(volume, stem, "image")]
    return [layer_of(_editable(file, volume), stem, "labels")]


def _editable(file: str, volume: Volume) -> Volume:
    """Return labels in memory where they fit; else they can be seen, not painted."""
    size = volume.dtype.itemsize
    for side in volume.shape:
        size *= side
    return read_labels(file) if size <= SHARE * available_bytes() else volume

"""Open files in napari; slices are read when they are shown, and spacing is kept."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cellseg3d.core.memory import available_bytes
from cellseg3d.core.volume import Volume
from cellseg3d.io.registry import open_volume, read_labels
from cellseg3d.viewer.layers import LayerData, channel_layers, layer_of

# A file whose name ends in one of these is opened as labels.
LABELS = ("_label", "_labels", "_objects", "_ids")
# Labels can be painted only in memory, of which they may take this share.
SHARE = 0.25

Reader = Callable[[str | Sequence[str]], list[LayerData]]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return the function that opens a file, or None if there are several files.

    Parameters
    ----------
    path : str or sequence of str
        The file, or the files of a stack.
    """
    return read_layers if isinstance(path, str) else None


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Return the layers of a file: labels if its name ends in `LABELS`, or images.

    Each channel of an image becomes a layer of its own.

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
    if not stem.lower().endswith(LABELS):
        return channel_layers(open_volume(file, channels="all"), stem)
    volume = open_volume(file, labels=True)
    if volume.dtype.kind not in "ui":
        return [layer_of(volume, stem, "image")]
    return [layer_of(_editable(file, volume), stem, "labels")]


def _editable(file: str, volume: Volume) -> Volume:
    """Return labels in memory if they fit; otherwise they cannot be painted."""
    size = volume.dtype.itemsize
    for side in volume.shape:
        size *= side
    return read_labels(file) if size <= SHARE * available_bytes() else volume

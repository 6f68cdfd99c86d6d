"""Write TIFF files region by region; labels are compressed at the end."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellseg3d.core.colours import colour_labels
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.roi import Roi
from cellseg3d.io.layout import Layout, Sink, pack_notes
from cellseg3d.io.output.raw_sink import RawSink
from cellseg3d.io.tiff.spacing import resolution_of

# ImageJ reads these three dtypes, in files below 4 GiB.
IMAGEJ_DTYPES = ("u1", "u2", "f4")
IMAGEJ_BYTES = 2**32 - 2**26
# ImageJ shows up to this many channels over each other, each in a colour.
MOST_IN_COLOUR = 7
COLOUR_MAP = 320
OME_DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
# Labels above this size are not compressed: that needs a second pass over the file.
PACKED_BYTES = 2**32


def create(path: Path, layout: Layout) -> Sink:
    """Write the headers of a TIFF and return the writer of its voxels.

    Volumes of uint8, uint16 or float32 below 4 GiB become ImageJ hyperstacks. Others,
    and names that end in ``.ome.tif``, become OME-TIFF, or plain BigTIFF if OME-TIFF
    has no such dtype. Labels are compressed when the file is closed.
    """
    mapped = tifffile.memmap(path, **_options(path, layout))
    options = _options(path, layout)
    channels = layout.count if options["imagej"] and "C" in layout.axes else 1
    sink = RawSink(path, int(mapped.offset), mapped.dtype, layout.stacked, channels)
    small = layout.dtype.itemsize <= 4 and layout.nbytes < PACKED_BYTES
    packed = layout.labels and small
    return PackingSink(sink, path, layout) if packed else sink


class PackingSink:
    """A writer of an uncompressed file that compresses it when it is closed.

    Parameters
    ----------
    sink : RawSink
        The writer of the uncompressed file.
    path : Path
        The file.
    layout : Layout
        Shape, dtype and metadata of the volume.
    """

    def __init__(self, sink: RawSink, path: Path, layout: Layout) -> None:
        self.sink, self.path, self.layout = sink, path, layout

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Write the voxels (z, y, x) of the region `roi`."""
        self.sink.write(roi, array)

    def close(self) -> None:
        """Write the pages again, compressed, in place of the uncompressed file."""
        packed = self.path.with_name(f"{self.path.name}.packed")
        # The file is read, not mapped: a mapped file would stay in memory.
        plain = self.sink.array()
        pages = (plain[z] for z in range(plain.shape[0]))
        slices = range(plain.shape[0])
        largest = max((int(plain[z].max(initial=0)) for z in slices), default=0)
        options = _options(self.path, self.layout, largest)
        try:
            tifffile.imwrite(packed, pages, compression="zlib", **options)
            packed.replace(self.path)
        finally:
            packed.unlink(missing_ok=True)


def _options(path: Path, layout: Layout, largest: int = 0) -> dict[str, Any]:
    """Return the arguments of tifffile for a layout: shape, format and metadata.

    The largest label, once it is known, gives the range that ImageJ shows in colours.
    """
    dtype = np.dtype("u1") if layout.dtype.kind == "b" else layout.dtype
    kind = f"{dtype.kind}{dtype.itemsize}"
    ome = ".ome.tif" in path.name.lower()
    imagej = not ome and kind in IMAGEJ_DTYPES and layout.nbytes < IMAGEJ_BYTES
    ome = not imagej and kind in OME_DTYPES
    shape, axes = layout.lengths, layout.axes
    if imagej:
        if axes == "CZYX":  # ImageJ has the channels of a slice one after another.
            shape, axes = (shape[1], shape[0], *shape[2:]), "ZCYX"
        # Without a named axis of samples, tifffile would take an X of 1 for samples.
        shape, axes = (*shape, 1), f"{axes}S"
    metadata: dict[str, Any] = {"axes": axes}
    names = layout.notes.get("channel_names")
    if imagej and "C" in axes and 1 < layout.count <= MOST_IN_COLOUR:
        metadata["mode"] = "composite"
    if names and "C" in axes and ome:
        metadata["Channel"] = {"Name": list(names)}
    options: dict[str, Any] = {"bigtiff": not imagej, "imagej": imagej, "ome": ome}
    metadata["Description" if ome else "Info"] = pack_notes(layout.all_notes)
    if imagej and layout.labels and kind in ("u1", "u2"):
        metadata |= {"min": 0.0, "max": float(max(largest, IGNORE))}
        options["extratags"] = [_label_colours(ids=kind == "u2")]
    spacing = layout.spacing
    if spacing is not None and ome:
        for letter in "xyz":
            metadata[f"PhysicalSize{letter.upper()}"] = getattr(spacing, letter)
            metadata[f"PhysicalSize{letter.upper()}Unit"] = "\u00b5m"
    elif spacing is not None:
        metadata |= {"spacing": spacing.z, "unit": "um"}
        options |= resolution_of(spacing)
    return {
        "shape": shape,
        "dtype": dtype,
        "photometric": "minisblack",
        "metadata": metadata,
        **options,
    }


def _label_colours(*, ids: bool) -> tuple[int, str, int, list[int], bool]:
    """Return the tag with a colour for each of 256 labels, as ImageJ reads it.

    In grey, the labels 1 and 2 of 255 would look like the background. The file stays
    one of grey values for programs that would turn a palette into colours. Each page
    has the tag, since ImageJ makes a stack only of pages that are alike.
    """
    table = colour_labels(np.arange(256), ids=ids).T.astype(np.uint16) * 257
    return (COLOUR_MAP, "H", table.size, table.ravel().tolist(), False)

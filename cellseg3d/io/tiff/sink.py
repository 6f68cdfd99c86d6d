"""Write TIFF: room for contiguous voxels, filled in any order; labels are packed."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cellseg3d.core.colours import LABEL_COLOURS, UNKNOWN_COLOUR
from cellseg3d.core.roi import Roi
from cellseg3d.io.layout import Layout, Sink, pack_notes
from cellseg3d.io.raw_sink import RawSink
from cellseg3d.io.tiff.spacing import resolution_of

# ImageJ knows these three, and files below 4 GiB.
IMAGEJ_DTYPES = ("u1", "u2", "f4")
IMAGEJ_BYTES = 2**32 - 2**26
OME_DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
# Above this a second pass over the labels costs more than the disk it saves.
PACKED_BYTES = 2**32
# The label that means "not annotated".
NOT_ANNOTATED = 255


def create(path: Path, layout: Layout) -> Sink:
    """Write the pages' headers and room for contiguous voxels.

    Unsigned bytes, 16-bit and float32 below 4 GiB become ImageJ hyperstacks; others,
    and names that end in ``.ome.tif``, OME-TIFF; what neither knows, plain BigTIFF.
    Labels are packed when the file is closed.
    """
    mapped = tifffile.memmap(path, **_options(path, layout))
    sink = RawSink(path, int(mapped.offset), mapped.dtype, layout.shape)
    small = layout.dtype.itemsize <= 4 and layout.nbytes < PACKED_BYTES
    packed = layout.labels and small
    return PackingSink(sink, path, layout) if packed else sink


class PackingSink:
    """Regions go to a plain file; closing packs its pages.

    Parameters
    ----------
    sink : RawSink
        Writes the plain file.
    path : Path
        The file, plain until it is closed, packed then.
    layout : Layout
        What is written.
    """

    def __init__(self, sink: RawSink, path: Path, layout: Layout) -> None:
        self.sink, self.path, self.layout = sink, path, layout

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Put voxels (z, y, x) where `roi` says."""
        self.sink.write(roi, array)

    def close(self) -> None:
        """Write the pages again, packed, and remove the plain ones."""
        packed = self.path.with_name(f"{self.path.name}.packed")
        # Read, not mapped: pages of a mapped file stay with the process.
        plain = self.sink.array()
        pages = (plain[z] for z in range(plain.shape[0]))
        options = _options(self.path, self.layout)
        try:
            tifffile.imwrite(packed, pages, compression="zlib", **options)
            packed.replace(self.path)
        finally:
            packed.unlink(missing_ok=True)


def _options(path: Path, layout: Layout) -> dict[str, Any]:
    """Return tifffile's arguments for a layout: shape, flavour and metadata."""
    dtype = np.dtype("u1") if layout.dtype.kind == "b" else layout.dtype
    kind = f"{dtype.kind}{dtype.itemsize}"
    ome = ".ome.tif" in path.name.lower()
    imagej = not ome and kind in IMAGEJ_DTYPES and layout.nbytes < IMAGEJ_BYTES
    ome = not imagej and kind in OME_DTYPES
    # tifffile takes a last axis of 1 for samples, unless ImageJ's are named.
    shape = (*layout.shape, 1) if imagej else layout.shape
    metadata: dict[str, Any] = {"axes": "ZYXS" if imagej else "ZYX"}
    options: dict[str, Any] = {"bigtiff": not imagej, "imagej": imagej, "ome": ome}
    metadata["Description" if ome else "Info"] = pack_notes(layout.all_notes)
    if imagej and layout.labels and kind == "u1":
        metadata |= {"LUTs": [_label_colours()], "mode": "color"}
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


def _label_colours() -> NDArray[np.uint8]:
    """Return a colour for each of 256 labels, shape (3, 256), as ImageJ takes them.

    In grey, the labels 1 and 2 of 255 would look like the background.
    """
    kinds = np.arange(255) % (len(LABEL_COLOURS) - 1)
    table = np.array([LABEL_COLOURS[0], *(LABEL_COLOURS[1 + kind] for kind in kinds)])
    table[NOT_ANNOTATED] = UNKNOWN_COLOUR
    return table.astype(np.uint8).T.copy()

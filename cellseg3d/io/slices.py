"""Read and write folders of PNG or TIFF slices, and single PNG images, as volumes."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from cellseg3d.core.channels import ChannelStack
from cellseg3d.core.errors import AxisError, FormatError, SpacingError
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.layout import (
    Layout,
    Request,
    Sink,
    pack_notes,
    refuse_leading,
    split_unit,
    unpack_notes,
)
from cellseg3d.io.lazy import Box, LazyArray
from cellseg3d.io.names import Series, place_in, series_of
from cellseg3d.io.picking import CHANNEL_NAMES, pick_axes, times_note
from cellseg3d.io.png import open_png, pixels
from cellseg3d.io.sniff import check_format, check_path, natural_key, volume_suffix
from cellseg3d.io.strangers import is_image
from cellseg3d.io.tiff import volume as tiff

logger = logging.getLogger(__name__)
IMAGES = (".png", ".tif", ".tiff")
NOTES_FILE = "cellseg3d.json"


def slice_files(folder: Path) -> list[Path]:
    """Return the PNG or TIFF files in a folder by name, without hidden ones.

    Raises
    ------
    FormatError
        If the folder holds neither, or both.
    """
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    ]
    kinds = {path.suffix.lower().replace("tiff", "tif") for path in files}
    if not files:
        raise FormatError(
            f"{folder}: is a folder without slices; looked for {', '.join(IMAGES)}"
        )
    if len(kinds) > 1:
        raise FormatError(
            f"{folder}: holds PNG and TIFF files; keep the slices in one format and "
            "move the others to another folder"
        )
    return sorted(files, key=lambda path: natural_key(path.name))


def open_file(path: Path, request: Request) -> Volume:
    """Open a PNG as a volume of one slice, or a folder of slices as one volume.

    Voxels are not read before they are asked for.

    Raises
    ------
    FormatError
        If a file cannot be read, or the files in the folder are not slices in order.
    AxisError
        If the images are in colour and no channel is chosen.
    """
    if not path.is_dir():
        return _open_slice(path, request)
    series = series_of(slice_files(path), path)
    beside = _beside(path, series)
    rows, about, request = _rows(path, series, request)
    first = _open_slice(rows[0][0], request)
    if first.shape[0] != 1:
        raise AxisError(
            f"{path}: its file {rows[0][0].name} has {first.shape[0]} slices, so this "
            "is a folder of volumes; name one of them"
        )
    shape = (*first.array.shape[:-3], len(rows[0]), *first.shape[1:])
    unit, notes = split_unit(_folder_notes(path))
    edges = notes.pop("spacing_um", None)
    try:
        spacing = Spacing.of(edges) if edges else first.spacing
    except SpacingError as error:
        message = f"{path / NOTES_FILE}: {error}; correct it or give `spacing_um`"
        raise SpacingError(message) from error
    provenance: dict[str, Any] = {
        **notes,
        "path": str(path),
        "format": "folder of slices",
        **about,
    }
    odd = [*first.provenance.get("warnings", ()), *([series.gap] if series.gap else [])]
    odd += beside
    if odd:
        provenance["warnings"] = odd
    if CHANNEL_NAMES in first.provenance:
        provenance[CHANNEL_NAMES] = first.provenance[CHANNEL_NAMES]
    told = tuple(first.provenance.get("warnings", ()))
    parts = tuple(
        LazyArray(
            shape, first.dtype, SliceVoxels(row, shape, first.dtype, request, told)
        )
        for row in rows
    )
    array = parts[0] if len(parts) == 1 else ChannelStack(parts)
    return Volume(array, spacing, unit, provenance)


def _beside(folder: Path, series: Series) -> list[str]:
    """Return a sentence about images of other formats that lie beside the slices.

    Raises
    ------
    FormatError
        If one is named like a slice that is not there.
    """
    others = sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".")
        and path.suffix.lower() not in IMAGES
        and (is_image(path) or volume_suffix(path.name))
    )
    for path in others:
        if place_in(series, path):
            raise FormatError(
                f"{folder}: {path.name} is named like one of its slices, which are "
                f"{series.files[0].suffix}; keep the slices in one format, or move it "
                "to another folder"
            )
    if not others:
        return []
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    names = ", ".join(path.name for path in others[:3])
    return [
        f"{names}{more} in the folder is not read, since only PNG and TIFF are slices"
    ]


def _rows(
    path: Path, series: Series, request: Request
) -> tuple[tuple[tuple[Path, ...], ...], dict[str, Any], Request]:
    """Return the files of each channel by slice, notes and the request for each.

    There is one row of files unless the names count channels and all are read.
    """
    inside = replace(request, read_as=None)
    told = request.read_as if request.read_as in ("channels", "times") else None
    if series.counted is None and told is None:
        return (series.files,), {"axes": "ZYX"}, inside
    letter = "C" if series.counted == "channels" else "T"
    axes = "Z" if series.counted is None else f"{letter}Z"
    lengths = [len(series.rows), len(series.files)][-len(axes) :]
    axes, picked = pick_axes(path, axes, lengths, request)
    about: dict[str, Any] = {"axes": "ZYX", **times_note(axes, lengths)}
    grid = np.array(series.rows, dtype=object)
    grid = grid[0] if series.counted is None else grid
    for each, index in picked.items():
        place = axes.index(each)
        grid, axes = grid.take(index, axis=place), axes.replace(each, "")
    inside = replace(inside, channel=None, time=None)
    if "C" not in axes:
        return (tuple(np.atleast_1d(grid).ravel().tolist()),), about, inside
    grid = grid if "Z" in axes else grid[:, np.newaxis]
    about["axes"] = "CZYX"
    return tuple(map(tuple, grid)), about, replace(inside, every_channel=False)


def create(path: Path, layout: Layout) -> Sink:
    """Make a folder of PNG slices, or one PNG, and return the writer of its voxels.

    Raises
    ------
    FormatError
        If the dtype is not uint8 or uint16, since PNG can hold no other exactly, or if
        a single PNG is asked for and the volume has several slices.
    """
    refuse_leading(path, layout, "PNG")
    check_fits(path, layout.shape[0], layout.dtype)
    sink = SliceSink(path, layout, _is_single(path))
    sink.begin()
    return sink


def check_fits(path: Path, slices: int, dtype: np.dtype[Any]) -> None:
    """Refuse what PNG cannot hold, before anything is computed.

    Parameters
    ----------
    path : Path
        A PNG, or a folder of them.
    slices : int
        Number of slices.
    dtype : numpy dtype
        Type of a voxel.

    Raises
    ------
    FormatError
        If a single PNG would get several slices, or if the dtype is not bool, uint8 or
        uint16.
    """
    if dtype.kind not in "bu" or dtype.itemsize > 2:
        raise FormatError(f"{path}: PNG cannot hold {dtype}; choose .tif, .zarr or .h5")
    if _is_single(path) and slices != 1:
        raise FormatError(
            f"{path}: a PNG holds one slice, but the volume has {slices}; give a name "
            "without suffix to write a folder of slices"
        )


def _is_single(path: Path) -> bool:
    return ".png" in [suffix.lower() for suffix in path.suffixes]


@dataclass(frozen=True)
class SliceVoxels:
    """A reader of voxels from image files, one for each slice.

    Parameters
    ----------
    files : tuple of Path
        The slices in order.
    shape : tuple of int
        Shape (Z, Y, X) or (C, Z, Y, X), in voxels.
    dtype : numpy dtype
        Type of a voxel.
    request : Request
        Says which colour to read, if there are several.
    told : tuple of str
        What is unusual about the first slice, and need not be said of another.
    """

    files: tuple[Path, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    request: Request
    told: tuple[str, ...] = ()

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in a box of slices (z, y, x) or (c, z, y, x)."""
        *channels, depth, rows, columns = box
        sizes = [len(range(*part.indices(10**18))) for part in box]
        out = np.empty(sizes, self.dtype)
        for index, file in enumerate(self.files[depth]):
            found = _open_slice(file, self.request)
            for sentence in found.provenance.get("warnings", ()):
                if sentence not in self.told:
                    logger.warning("%s: %s", file, sentence)
            here = found.array.shape
            usual = (*self.shape[:-3], 1, *self.shape[-2:])
            if here != usual or found.dtype != self.dtype:
                raise FormatError(
                    f"{file}: is {here[-2:]} {found.dtype}{_colours(here)}, but the "
                    f"first slice is {usual[-2:]} {self.dtype}{_colours(usual)}; "
                    "slices of a volume must have one size and type (give images that "
                    "are not slices one by one)"
                )
            part = found.array[(*channels, slice(0, 1), rows, columns)]
            out[..., index, :, :] = part[..., 0, :, :]
        return out


@dataclass(frozen=True)
class SliceSink:
    """A writer of one PNG for each slice.

    Parameters
    ----------
    path : Path
        The folder, or the single PNG.
    layout : Layout
        Shape, dtype and metadata of the volume.
    single : bool
        Whether `path` is a single PNG.
    """

    path: Path
    layout: Layout
    single: bool

    @property
    def unit(self) -> tuple[int, int, int]:
        """Shape of a slice (1, Y, X), which only one process writes at a time."""
        return (1, *self.layout.shape[1:])

    def begin(self) -> None:
        """Make the folder and write the notes into it."""
        if self.single:
            return
        self.path.mkdir()
        # The folder gets its name when all is in it, and errors then name that.
        text = pack_notes(self._notes()) + "\n"
        (self.path / NOTES_FILE).write_bytes(text.encode())

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Write the voxels (z, y, x) of the region `roi`."""
        plane = self.layout.shape[1:]
        _, rows, columns = roi.slices
        for offset, part in enumerate(array):
            file = self._file(roi.start[0] + offset)
            whole = part
            if part.shape != plane:
                whole = np.zeros(plane, array.dtype)
                if file.exists():
                    whole = np.array(pixels(file))
                whole[rows, columns] = part
            kind = np.uint8 if self.layout.dtype.itemsize == 1 else np.uint16
            about = PngImagePlugin.PngInfo()
            about.add_text("Comment", pack_notes(self._notes()))
            with file.open("wb") as target:
                image = Image.fromarray(np.ascontiguousarray(whole, kind))
                image.save(target, "PNG", pnginfo=about)

    def close(self) -> None:
        """Write slices of 0 where no region was written."""
        blank = np.zeros(self.layout.shape[1:], np.uint8)
        for index in range(self.layout.shape[0]):
            if not self._file(index).exists():
                self.write(Roi.at((index, 0, 0), self.unit), blank[np.newaxis])

    def _file(self, index: int) -> Path:
        if self.single:
            return self.path
        digits = max(4, len(str(self.layout.shape[0] - 1)))
        return self.path / f"z{index:0{digits}d}.png"

    def _notes(self) -> dict[str, Any]:
        notes = self.layout.all_notes
        if self.layout.spacing is not None:
            notes["spacing_um"] = list(self.layout.spacing.zyx)
        return notes


def _open_slice(path: Path, request: Request) -> Volume:
    check_path(path)
    if path.suffix.lower() != ".png":
        check_format(path, "tiff")
        return tiff.open_file(path, request)
    check_format(path, "png")
    return open_png(path, request)


def _colours(shape: tuple[int, ...]) -> str:
    return f" of {shape[0]} channels" if len(shape) == 4 else ""


def _folder_notes(folder: Path) -> dict[str, Any]:
    file = folder / NOTES_FILE
    if not file.is_file():
        return {}
    try:
        return unpack_notes(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        message = f"{file}: is no text ({error.reason}); remove it or copy it again"
        raise FormatError(message) from error

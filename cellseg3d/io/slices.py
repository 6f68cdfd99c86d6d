"""Folders of PNG or TIFF slices, and single PNG images, as volumes."""

import itertools
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from cellseg3d.core.errors import AxisError, FormatError
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.layout import (
    Layout,
    Request,
    Sink,
    pack_notes,
    split_unit,
    unpack_notes,
)
from cellseg3d.io.lazy import Box, LazyArray
from cellseg3d.io.picking import pick_channel
from cellseg3d.io.sniff import check_format, check_path, natural_key
from cellseg3d.io.tiff import volume as tiff

IMAGES = (".png", ".tif", ".tiff")
NOTES_FILE = "cellseg3d.json"
_MODES = {"L": "u1", "1": "b1", "I;16": "u2", "I;16B": "u2", "I": "i4", "P": "u1"}
_COLOURS = {"RGB": 3, "RGBA": 4, "LA": 2}
_GREY = "its colour channels are equal: read as grey"


def slice_files(folder: Path) -> list[Path]:
    """Return a folder's PNG or TIFF files in natural order; hidden ones do not count.

    Raises
    ------
    FormatError
        If there is none, or both kinds.
    """
    files = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    ]
    kinds = {path.suffix.lower().replace("tiff", "tif") for path in files}
    if not files:
        raise FormatError(
            f"{folder}: a folder without slices; looked for {', '.join(IMAGES)}"
        )
    if len(kinds) > 1:
        raise FormatError(
            f"{folder}: holds PNG and TIFF files; keep the slices of one kind"
        )
    return sorted(files, key=lambda path: natural_key(path.name))


def open_file(path: Path, request: Request) -> Volume:
    """Open a PNG as a volume of one slice, or a folder of slices, lazily.

    Raises
    ------
    FormatError
        If a file is no readable image, or the folder is no stack of slices.
    AxisError
        If the images are in colour and no channel is picked.
    """
    files = slice_files(path) if path.is_dir() else [path]
    first = _open_slice(files[0], request.channel)
    if first.shape[0] != 1:
        raise AxisError(
            f"{path}: {files[0].name} alone has {first.shape[0]} slices; this is a "
            "folder of volumes, name one of them"
        )
    shape = zyx([len(files), *first.shape[1:]])
    notes = _folder_notes(path) if path.is_dir() else dict(first.provenance)
    unit, notes = split_unit(notes)
    edges = notes.pop("spacing_um", None)
    spacing = Spacing.of(edges) if edges else first.spacing
    kind = "folder of slices" if path.is_dir() else first.provenance["format"]
    provenance: dict[str, Any] = {**notes, "path": str(path), "format": kind}
    gap = _gap(files)
    odd = [*first.provenance.get("warnings", ()), *([gap] if gap else [])]
    if odd:
        provenance["warnings"] = odd
    reader = SliceVoxels(tuple(files), shape, first.dtype, request.channel)
    return Volume(LazyArray(shape, first.dtype, reader), spacing, unit, provenance)


def create(path: Path, layout: Layout) -> Sink:
    """Make a folder of PNG slices, or one PNG for a volume of one slice.

    Raises
    ------
    FormatError
        If the dtype is not 8 or 16 unsigned bits: PNG holds no other exactly.
    """
    if layout.dtype.kind not in "bu" or layout.dtype.itemsize > 2:
        raise FormatError(
            f"{path}: PNG holds no {layout.dtype}; choose .tif, .zarr or .h5"
        )
    single = ".png" in path.suffixes
    if single and layout.shape[0] != 1:
        raise FormatError(
            f"{path}: a PNG holds one slice, the volume has {layout.shape[0]}; write "
            "to a name without suffix for a folder of slices"
        )
    sink = SliceSink(path, layout, single)
    sink.begin()
    return sink


@dataclass(frozen=True)
class SliceVoxels:
    """Voxels in one image file a slice.

    Parameters
    ----------
    files : tuple of Path
        The slices in order.
    shape : tuple of int
        Shape (Z, Y, X).
    dtype : numpy dtype
        Type of a voxel.
    channel : int or None
        Which colour, where there are several.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    channel: int | None

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in `box`, three slices (z, y, x)."""
        depth, rows, columns = box
        sizes = [len(range(*part.indices(10**18))) for part in box]
        out = np.empty(sizes, self.dtype)
        for index, file in enumerate(self.files[depth]):
            found = _open_slice(file, self.channel)
            if found.shape != (1, *self.shape[1:]) or found.dtype != self.dtype:
                raise FormatError(
                    f"{file}: {found.shape[1:]} {found.dtype}, the first slice is "
                    f"{self.shape[1:]} {self.dtype}; a volume needs slices of one size "
                    "(name images that are not its slices one by one)"
                )
            out[index] = found.array[:, rows, columns][0]
        return out


@dataclass(frozen=True)
class SliceSink:
    """Takes regions and keeps one PNG a slice; `unit` is a whole slice.

    Parameters
    ----------
    path : Path
        The folder, or the one PNG.
    layout : Layout
        What is written.
    single : bool
        Whether `path` is one PNG.
    """

    path: Path
    layout: Layout
    single: bool

    @property
    def unit(self) -> tuple[int, int, int]:
        """One slice: writers of different slices never meet."""
        return (1, *self.layout.shape[1:])

    def begin(self) -> None:
        """Make the folder and put the notes in it."""
        if self.single:
            return
        self.path.mkdir()
        (self.path / NOTES_FILE).write_text(
            pack_notes(self._notes()) + "\n", encoding="utf-8"
        )

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Put voxels (z, y, x) where `roi` says."""
        plane = self.layout.shape[1:]
        _, rows, columns = roi.slices
        for offset, part in enumerate(array):
            file = self._file(roi.start[0] + offset)
            whole = part
            if part.shape != plane:
                whole = np.zeros(plane, array.dtype)
                if file.exists():
                    whole = np.array(_pixels(file))
                whole[rows, columns] = part
            kind = np.uint8 if self.layout.dtype.itemsize == 1 else np.uint16
            about = PngImagePlugin.PngInfo()
            about.add_text("Comment", pack_notes(self._notes()))
            with file.open("wb") as target:
                image = Image.fromarray(np.ascontiguousarray(whole, kind))
                image.save(target, "PNG", pnginfo=about)

    def close(self) -> None:
        """Put empty slices where no region was written."""
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


def _open_slice(path: Path, channel: int | None) -> Volume:
    check_path(path)
    if path.suffix.lower() != ".png":
        check_format(path, "tiff")
        return tiff.open_file(path, Request(channel=channel))
    check_format(path, "png")
    with _image(path) as image:
        mode, (width, height) = image.mode, image.size
        notes = unpack_notes(str(image.info.get("Comment", "")))
    if mode in _COLOURS and channel is None and _is_grey(path):
        channel, notes = 0, notes | {"warnings": [_GREY]}
    if mode in _COLOURS:
        pick_channel(path, "YXS", (height, width, _COLOURS[mode]), channel)
        dtype = np.dtype("u1")
    elif mode in _MODES:
        # A PNG has 16 bits at most, also where Pillow unpacks to 32.
        dtype = np.dtype({"I": "u2", "1": "u1"}.get(mode, _MODES[mode]))
    else:
        raise FormatError(f"{path}: PNG of mode {mode}; expected 8 or 16 bit grey")
    reader = PngVoxels(path, channel if mode in _COLOURS else None)
    array = LazyArray((1, height, width), dtype, reader)
    return Volume(array, provenance={**notes, "path": str(path), "format": "PNG"})


def _is_grey(path: Path) -> bool:
    """Whether all colours of a PNG are equal, and it is nowhere transparent."""
    pixels = _pixels(path)
    count = pixels.shape[-1] - (pixels.shape[-1] in (2, 4))  # The last is opacity.
    colours, opacity = pixels[..., :count], pixels[..., count:]
    grey = bool((colours == colours[..., :1]).all())
    return grey and bool((opacity == 255).all())


@dataclass(frozen=True)
class PngVoxels:
    """Voxels of one PNG; `channel` picks a colour."""

    path: Path
    channel: int | None

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in `box`, three slices (z, y, x)."""
        plane = _pixels(self.path)
        if self.channel is not None:
            plane = plane[..., self.channel]
        return plane[np.newaxis][box]


def _pixels(path: Path) -> NDArray[Any]:
    with _image(path) as image:
        try:
            return np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise FormatError(
                f"{path}: incomplete or damaged PNG ({error}); copy it again"
            ) from error


def _image(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns of images that are merely large.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise FormatError(f"{path}: not a readable PNG ({error})") from error
    except Image.DecompressionBombError as error:
        raise FormatError(f"{path}: {error}; save it as TIFF") from error


def _folder_notes(folder: Path) -> dict[str, Any]:
    file = folder / NOTES_FILE
    return unpack_notes(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _gap(files: list[Path]) -> str | None:
    """Return a warning when the last number in the names skips one."""
    numbers = []
    for file in files:
        found = re.findall(r"\d+", file.stem)
        if not found:
            return None
        numbers.append(int(found[-1]))
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    if len(steps) < 2:
        return None
    absent = next(a + 1 for a, b in itertools.pairwise(numbers) if b - a != min(steps))
    return f"the numbers of the slices are not even: {absent} is missing"

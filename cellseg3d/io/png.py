"""Read PNG images, with the exact values of every bit depth and colour type."""

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cellseg3d.core.axes import to_zyx
from cellseg3d.core.errors import FormatError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.volume import Volume
from cellseg3d.core.words import counted
from cellseg3d.io.layout import Request, unpack_notes
from cellseg3d.io.lazy import Box, LazyArray, lazy_shape
from cellseg3d.io.picking import (
    CHANNEL_NAMES,
    GREY,
    PALETTE,
    all_grey,
    colour_names,
    pick_axes,
)

_HEADER = struct.Struct(">4xI4sIIBB")
_CHUNK, _MARK = struct.Struct(">I4s"), 8
# Decompressed in parts of so many bytes.
_PART = 2**22
# The first row and column of each pass of an interlaced image, and the steps.
_PASSES = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
_PALETTE = 3
# The number of samples of a pixel, by the colour type in the header.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True)
class PngHeader:
    """The size, bit depth and colour type in the header of a PNG.

    Parameters
    ----------
    height, width : int
        The size in pixels.
    bits : int
        The bits of a sample: 1, 2, 4, 8 or 16.
    colour : int
        0 is grey, 2 RGB, 3 indices into a palette, 4 grey with opacity, 6 RGB with
        opacity.
    interlaced : bool
        Whether the rows are stored in seven passes.
    """

    height: int
    width: int
    bits: int
    colour: int
    interlaced: bool = False

    @property
    def stored_bytes(self) -> int:
        """The size of the pixels before compression; each row has a byte more."""
        total = 0
        for top, left, down, across in _PASSES if self.interlaced else ((0, 0, 1, 1),):
            rows = max(0, -(-(self.height - top) // down))
            columns = max(0, -(-(self.width - left) // across))
            if rows and columns:
                total += rows * (1 + -(-columns * self.samples * self.bits // 8))
        return total

    @property
    def samples(self) -> int:
        """The number of samples of a pixel, opacity included."""
        return _SAMPLES[self.colour]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a sample."""
        return np.dtype("u2" if self.bits == 16 else "u1")


def open_png(path: Path, request: Request) -> Volume:
    """Open a PNG as a volume of one slice.

    Raises
    ------
    FormatError
        If the file is not a readable PNG.
    AxisError
        If it is in colour or partly transparent, and no channel is chosen.
    """
    header = read_header(path)
    data = path.read_bytes()
    behind = len(data) - checked_end(path, data)
    notes, odd = _notes(path)
    if behind:
        odd.append(f"{counted(behind, 'unknown byte')} behind the end of the image")
    if header.colour == _PALETTE and not _identity_palette(path):
        odd.append(PALETTE)
    axes, shape = "YX", [header.height, header.width]
    if header.samples > 1:
        axes, shape = "YXS", [*shape, header.samples]
    channel = request.channel
    unasked = not (channel is not None or request.read_as or request.every_channel)
    if (
        header.samples > 1
        and unasked
        and all_grey(pixels(path, header), header.samples)
    ):
        channel = 0
        odd.append(GREY)
    names = colour_names(header.samples) if request.read_as is None else []
    asked = request.with_channel(channel)
    axes, picked = pick_axes(path, axes, shape, asked, names)
    reader = PngVoxels(path, axes, tuple(picked.items()))
    array = LazyArray(lazy_shape(axes, shape, picked), header.dtype, reader)
    provenance = {**notes, "path": str(path), "format": "PNG"}
    if names:
        provenance[CHANNEL_NAMES] = names
    if odd:
        provenance["warnings"] = odd
    return Volume(array, provenance=provenance)


@dataclass(frozen=True)
class PngVoxels:
    """A reader of the voxels of one PNG.

    Parameters
    ----------
    path : Path
    axes : str
        The letters of the image's axes: ``"YX"``, or three letters if a pixel has
        several samples.
    picked : tuple of (str, int)
        The index to read along an axis that the volume does not have.
    """

    path: Path
    axes: str
    picked: tuple[tuple[str, int], ...]

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in a box of slices (z, y, x) or (c, z, y, x)."""
        plane = pixels(self.path, read_header(self.path))
        kept = self.axes
        for letter, index in self.picked:
            plane = plane.take(index, axis=kept.index(letter))
            kept = kept.replace(letter, "")
        return to_zyx(plane, kept)[box]


def read_header(path: Path) -> PngHeader:
    """Return the size, bit depth and colour type of a PNG.

    Raises
    ------
    FormatError
        If the header is incomplete or invalid.
    """
    with path.open("rb") as file:
        start = file.read(8 + 4 + 4 + 13)
    if len(start) < 29 or start[12:16] != b"IHDR":
        raise FormatError(f"{path}: is a PNG without a header; copy it again")
    _, _, width, height, bits, colour = _HEADER.unpack(start[4:26])
    if colour not in _SAMPLES or bits not in (1, 2, 4, 8, 16) or not width * height:
        raise FormatError(
            f"{path}: its PNG header states {width} x {height} pixels of {bits} bits "
            f"and colour type {colour}, which no PNG can have; copy it again"
        )
    return PngHeader(height, width, bits, colour, interlaced=bool(start[28]))


def checked_end(path: Path, data: bytes) -> int:
    """Return where the last chunk of a PNG ends, after a check of each chunk's CRC.

    Parameters
    ----------
    path : Path
        The file, for messages.
    data : bytes
        Its content.

    Raises
    ------
    FormatError
        If a chunk does not fit its CRC, or the last one (IEND) is missing.
    """
    place, kind = _MARK, b""
    while kind != b"IEND":
        if place + _CHUNK.size > len(data):
            raise FormatError(
                f"{path}: is an incomplete PNG without an end; copy it again"
            )
        length, kind = _CHUNK.unpack_from(data, place)
        end = place + _CHUNK.size + length
        stated = data[end : end + 4]
        if zlib.crc32(data[place + 4 : end]) != int.from_bytes(stated) or (
            len(stated) < 4
        ):
            raise FormatError(
                f"{path}: is an incomplete or damaged PNG, since its part "
                f"{kind.decode('latin-1')!r} does not fit its checksum; copy it again"
            )
        place = end + 4
    return place


def pixels(path: Path, header: PngHeader | None = None) -> NDArray[Any]:
    """Return the stored values of a PNG.

    Parameters
    ----------
    path : Path
    header : PngHeader, optional
        What `read_header` returns, if it was called before.

    Returns
    -------
    ndarray of uint8 or uint16, shape (Y, X) or (Y, X, samples)

    Raises
    ------
    FormatError
        If the file is damaged or incomplete.
    EnvironmentFault
        If the image needs more memory than is available.
    """
    known = header or read_header(path)
    size = known.height * known.width * known.samples * known.dtype.itemsize
    check_memory(size, str(path))
    _check_rows(path, known)
    found = _stored_indices(path) if known.colour == _PALETTE else _decoded(path)
    if known.bits < 8 and known.colour != _PALETTE:
        # The decoder has scaled values of 1, 2 and 4 bits to 0..255.
        found = found // (255 // (2**known.bits - 1))
    if known.samples < (found.shape[2] if found.ndim == 3 else 1):
        # The decoder adds an opacity if one colour is marked as transparent.
        found = found[..., : known.samples] if known.samples > 1 else found[..., 0]
    if found.shape[:2] != (known.height, known.width):
        raise FormatError(f"{path}: is an incomplete or damaged PNG; copy it again")
    return found.astype(known.dtype, copy=False)


def _check_rows(path: Path, header: PngHeader) -> None:
    """Raise an error if the compressed data hold more or fewer rows than the header.

    Raises
    ------
    FormatError
        With both sizes, in bytes.
    """
    data, place, needed = path.read_bytes(), _MARK, header.stored_bytes
    unpacked, found = zlib.decompressobj(), 0
    try:
        while place + _CHUNK.size <= len(data):
            length, kind = _CHUNK.unpack_from(data, place)
            begin = place + _CHUNK.size
            if kind == b"IDAT":
                left: bytes = data[begin : begin + length]
                while left and found <= needed:
                    found += len(unpacked.decompress(left, _PART))
                    left = unpacked.unconsumed_tail
            place = begin + length + 4
    except zlib.error as error:
        raise FormatError(
            f"{path}: is an incomplete or damaged PNG ({error}); copy it again"
        ) from error
    if found != needed:
        more = "more than" if found > needed else f"{found} of"
        raise FormatError(
            f"{path}: is a damaged PNG, since its header states {header.height} x "
            f"{header.width} pixels, and its data have {more} {needed} bytes for them; "
            "copy it again"
        )


def _decoded(path: Path) -> NDArray[Any]:
    try:
        decoded: NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
    except (imagecodecs.PngError, ValueError) as error:
        raise FormatError(
            f"{path}: is an incomplete or damaged PNG ({error}); copy it again"
        ) from error
    return decoded


def _stored_indices(path: Path) -> NDArray[Any]:
    with _image(path) as image:
        try:
            return np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise FormatError(
                f"{path}: is an incomplete or damaged PNG ({error}); copy it again"
            ) from error


def _notes(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the notes in a PNG, and a sentence if it is animated."""
    with _image(path) as image:
        frames = getattr(image, "n_frames", 1)
        notes = unpack_notes(str(image.info.get("Comment", "")))
    moving = f"it is animated, and the first of its {frames} frames is read"
    return notes, [moving] * (frames > 1)


def _identity_palette(path: Path) -> bool:
    """Return whether the colour of each index is the grey of the same value."""
    with _image(path) as image:
        colours = np.array(image.getpalette() or [], np.int64).reshape(-1, 3)
    return bool((colours == np.arange(len(colours))[:, np.newaxis]).all())


def _image(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns about large images, which are usual here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise FormatError(
            f"{path}: is a PNG that cannot be read ({error}); copy it again"
        ) from error
    except Image.DecompressionBombError as error:
        raise FormatError(
            f"{path}: is too large for a PNG ({error}); save it as TIFF"
        ) from error

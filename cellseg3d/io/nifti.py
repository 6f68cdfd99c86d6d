"""Read and write NIfTI files; a .nii.gz file is decompressed once."""

import gzip
import logging
import math
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from cellseg3d.core.axes import to_zyx
from cellseg3d.core.errors import AxisError, FormatError, SpacingError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.roi import Roi
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
from cellseg3d.io.lazy import Box, LazyArray, lazy_shape
from cellseg3d.io.output.raw_sink import RawSink
from cellseg3d.io.picking import (
    channel_names_in,
    index_of_box,
    pick_axes,
    times_note,
)

logger = logging.getLogger(__name__)
COMMENT = 6
MM_PER = {"mm": 1.0, "micron": 1e-3, "meter": 1e3}
UM_PER_MM = 1e3


def open_file(path: Path, request: Request, *, ignore_affine: bool = False) -> Volume:
    """Open a NIfTI-1 or NIfTI-2 file without reading its voxels.

    The first axis of the file becomes x. The volume keeps the affine, in mm, so that
    its labels can be written in the same place.

    Parameters
    ----------
    path : Path
    request : Request
    ignore_affine : bool
        Whether to read a file with an invalid affine, without a spacing.

    Raises
    ------
    FormatError
        If the header is invalid, or the file is shorter than its header states.
    AxisError
        If the file holds several channels or time points and none is chosen.
    SpacingError
        If the affine is zero or not finite.
    """
    image = _load(path)
    shape = image.shape
    axes = "XYZTCUVW"[: len(shape)]
    unit, notes = split_unit(_notes(image))
    axes, picked = pick_axes(path, axes, shape, request, channel_names_in(notes))
    volume_shape = lazy_shape(axes, shape, picked)
    stored = _stored_dtype(path, image)
    offset = int(image.dataobj.offset)
    needed = offset + math.prod(map(int, shape)) * stored.itemsize
    if not _packed(path) and path.stat().st_size < needed:
        raise FormatError(
            f"{path}: is incomplete, with {path.stat().st_size} of {needed} bytes; "
            "copy it again"
        )
    odd = []
    if not _packed(path) and path.stat().st_size > needed:
        odd = [f"{path.stat().st_size - needed} unknown bytes follow the last voxel"]
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
    dtype = np.dtype("f8") if scaled else stored.newbyteorder("=")
    reader = NiftiVoxels(path, axes, picked, needed)
    affine, spacing, warnings = (
        (None, None, []) if ignore_affine else _affine(path, image)
    )
    provenance: dict[str, Any] = {"path": str(path), "format": "NIfTI", "axes": axes}
    provenance = {**notes, **provenance, **times_note(axes, shape)}
    if warnings := odd + warnings:
        provenance["warnings"] = warnings
    return Volume(
        LazyArray(volume_shape, dtype, reader), spacing, unit, provenance, affine
    )


def create(path: Path, layout: Layout) -> Sink:
    """Write the header of a NIfTI file and return the writer of its voxels.

    The file is NIfTI-1, or NIfTI-2 if an axis is longer than 32767 voxels. A .nii.gz
    file is compressed when it is closed.

    Raises
    ------
    FormatError
        If NIfTI has no code for this dtype.
    """
    dtype = np.dtype("u1") if layout.dtype.kind == "b" else layout.dtype
    kind: Any = nib.Nifti2Header if max(layout.shape) > 32767 else nib.Nifti1Header
    header = kind()
    try:
        header.set_data_dtype(dtype)
    except nib.spatialimages.HeaderDataError as error:
        raise FormatError(
            f"{path}: NIfTI cannot hold {dtype}; choose .tif, .zarr or .h5"
        ) from error
    sides = layout.lengths[::-1]
    # Channels are the fifth axis of a NIfTI, behind that of time.
    header.set_data_shape((*sides[:3], 1, *sides[3:]) if "C" in layout.axes else sides)
    _set_affine(header, layout)
    note = pack_notes(layout.all_notes).encode()
    header.extensions.append(Nifti1Extension(COMMENT, note))
    header["descrip"] = _description(layout).encode()[:79]
    # The voxels follow the header, 4 bytes of flags, and an extension of 8 bytes and
    # the note, filled up to a multiple of 16.
    size = int(header["sizeof_hdr"]) + 4 + -(-(len(note) + 8) // 16) * 16
    header.set_data_offset(size)
    header["magic"] = b"n+2" if isinstance(header, nib.Nifti2Header) else b"n+1"
    with path.open("wb") as file:
        header.write_to(file)
    sink = RawSink(path, size, dtype.newbyteorder("<"), layout.stacked)
    return PackingSink(sink, path) if _packed(path) else sink


@dataclass(frozen=True)
class NiftiVoxels:
    """A reader of voxels; it decompresses a .nii.gz file once and keeps the voxels.

    Parameters
    ----------
    path : Path
        The file.
    axes : str
        The letters of its axes; the first axis is the fastest.
    picked : dict
        The index to read along each axis that is not X, Y or Z.
    nbytes : int
        The size of the decompressed file, in bytes.
    """

    path: Path
    axes: str
    picked: dict[str, int]
    nbytes: int
    _unpacked: list[Any] = field(default_factory=list, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (NiftiVoxels, (self.path, self.axes, self.picked, self.nbytes))

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the voxels in a box of slices (z, y, x) or (c, z, y, x)."""
        key, kept = index_of_box(self.axes, self.picked, box)
        return to_zyx(np.asarray(self._proxy()[key]), kept)

    def _proxy(self) -> Any:  # noqa: ANN401
        if not _packed(self.path):
            return _load(self.path).dataobj
        if not self._unpacked:
            self._unpacked.append(_unpack(self.path, self.nbytes).dataobj)
        return self._unpacked[0]


class PackingSink:
    """A writer of an uncompressed file that compresses it when it is closed.

    Parameters
    ----------
    sink : Sink
        The writer of the uncompressed file.
    path : Path
        The file.
    """

    def __init__(self, sink: Sink, path: Path) -> None:
        self.sink, self.path = sink, path

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Write the voxels (z, y, x) of the region `roi`."""
        self.sink.write(roi, array)

    def close(self) -> None:
        """Compress the file in place of the uncompressed one."""
        self.sink.close()
        packed = self.path.with_name(f"{self.path.name}.packed")
        try:
            # At level 1 labels are as small as at level 9; images hardly shrink at all.
            with (
                self.path.open("rb") as source,
                packed.open("wb") as raw,
                gzip.GzipFile(
                    "", "wb", compresslevel=1, fileobj=raw, mtime=0
                ) as target,
            ):
                shutil.copyfileobj(source, target, 2**20)
            packed.replace(self.path)
        finally:
            packed.unlink(missing_ok=True)


def _packed(path: Path) -> bool:
    return ".gz" in [suffix.lower() for suffix in path.suffixes]


def _load(path: Path) -> Any:  # noqa: ANN401
    library = nib.imageglobals.logger
    # The library prints what it corrects in a header; what matters is checked here.
    was, library.disabled = library.disabled, True
    try:
        # `nib.load` would go by the suffix, in which it distinguishes upper case.
        with gzip.open(path) if _packed(path) else path.open("rb") as file:
            kind = _kind_of(file.read(4))
        holder = nib.FileHolder(str(path))
        image = kind.from_file_map({"image": holder})
    except (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        nib.wrapstruct.WrapStructError,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
    ) as error:
        raise FormatError(
            f"{path}: its NIfTI header cannot be read ({error}); copy it again or "
            "export it again"
        ) from error
    finally:
        library.disabled = was
    _check_header(path, image)
    return image


def _check_header(path: Path, image: Any) -> None:  # noqa: ANN401
    """Raise an error if a length or the place of the first voxel is impossible."""
    lengths = tuple(map(int, image.shape))
    if not lengths or min(lengths) < 0:
        raise FormatError(
            f"{path}: its NIfTI header states the lengths {lengths} (x, y, z, ...); "
            "expected positive numbers; copy it again or export it again"
        )
    least, offset = int(image.header["sizeof_hdr"]) + 4, int(image.dataobj.offset)
    if offset < least:
        raise FormatError(
            f"{path}: its NIfTI header states that the voxels begin at byte {offset}; "
            f"expected {least} or more, since the header lies before; export it again"
        )


def _unpack(path: Path, nbytes: int) -> Any:  # noqa: ANN401
    """Return the decompressed image; reading the file to its end checks its CRC."""
    check_memory(nbytes, str(path))
    data = bytearray()
    try:
        with gzip.open(path) as file:
            # `read` would lose what it has decompressed before it finds a fault.
            while part := file.read1(2**22):
                data += part
                if len(data) > nbytes + 2**24:
                    raise FormatError(
                        f"{path}: decompresses to more than the {nbytes} bytes that "
                        "its header states; copy it again"
                    )
    except gzip.BadGzipFile as error:
        # A complete and sound file may be followed by bytes that are not its own.
        if len(data) < nbytes or "Not a gzipped file" not in str(error):
            raise _incomplete(path, len(data), nbytes, error) from error
        logger.warning("%s: unknown bytes follow the compressed file", path)
    except (EOFError, OSError, zlib.error) as error:
        raise _incomplete(path, len(data), nbytes, error) from error
    if len(data) > nbytes:
        logger.warning(
            "%s: %d unknown bytes follow the last voxel", path, len(data) - nbytes
        )
    if len(data) < nbytes:
        raise FormatError(
            f"{path}: is incomplete and decompresses to {len(data)} of {nbytes} bytes; "
            "copy it again"
        )
    return _kind_of(bytes(data[:4])).from_bytes(bytes(data))


def _kind_of(start: bytes) -> Any:  # noqa: ANN401
    return nib.Nifti2Image if start in _NIFTI2 else nib.Nifti1Image


def _incomplete(path: Path, found: int, nbytes: int, error: Exception) -> FormatError:
    return FormatError(
        f"{path}: is incomplete or damaged after {found} of {nbytes} decompressed "
        f"bytes ({error}); copy it again"
    )


_NIFTI2 = ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))


def _stored_dtype(path: Path, image: Any) -> np.dtype[Any]:  # noqa: ANN401
    dtype: np.dtype[Any] = np.dtype(image.get_data_dtype())
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        what = "colours" if dtype.names else str(dtype)
        raise AxisError(
            f"{path}: its voxels are {what}; expected one integer or float for each "
            "voxel; export one channel"
        )
    return dtype


def _affine(
    path: Path,
    image: Any,  # noqa: ANN401
) -> tuple[NDArray[np.float64] | None, Spacing | None, list[str]]:
    header = image.header
    unit = header.get_xyzt_units()[0]
    affine = np.array(image.affine, np.float64)
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and (edges > 0).all()):
        raise SpacingError(
            f"{path}: its NIfTI affine gives voxel edges {edges.tolist()}; expected "
            "positive numbers; give the true ones as `spacing_um`"
        )
    if unit == "unknown" and np.allclose(edges, 1.0):
        return affine, None, _two_affines(header)
    warnings = _two_affines(header)
    if unit == "unknown":
        warnings.append(
            "its NIfTI header states no unit, so lengths are read as mm, as other "
            "programs do"
        )
    affine[:3] *= MM_PER.get(unit, 1.0)
    x, y, z = (edges * MM_PER.get(unit, 1.0) * UM_PER_MM).tolist()
    return affine, Spacing(z, y, x), warnings


def _two_affines(header: Any) -> list[str]:  # noqa: ANN401
    """Return a warning if the header states two affines that differ."""
    sform, by_sform = header.get_sform(coded=True)
    qform, by_qform = header.get_qform(coded=True)
    if not by_sform:
        return []
    zooms = np.array(header.get_zooms()[:3], np.float64)
    edges = np.linalg.norm(sform[:3, :3], axis=0)[: len(zooms)]
    if by_qform and not np.allclose(sform, qform, rtol=1e-3, atol=1e-3 * edges.min()):
        return [
            "its qform and its sform differ, and the sform is used, as other programs "
            "do; check axes and voxel edges"
        ]
    if not np.allclose(edges, zooms, rtol=1e-2):
        return [
            f"its sform states voxel edges {edges.tolist()} (x, y, z), but its pixdim "
            f"states {zooms.tolist()}, and the sform is used; check the voxel edges"
        ]
    return []


def _set_affine(header: Any, layout: Layout) -> None:  # noqa: ANN401
    if layout.affine_mm is None and layout.spacing is None:
        return
    affine = layout.affine_mm
    if affine is None and layout.spacing is not None:
        z, y, x = layout.spacing.zyx
        affine = np.diag([x / UM_PER_MM, y / UM_PER_MM, z / UM_PER_MM, 1.0])
    header.set_qform(affine, code=1, strip_shears=True)
    header.set_sform(affine, code=1)
    # Without a spacing only the directions of the axes are known.
    header.set_xyzt_units("unknown" if layout.spacing is None else "mm")


def _notes(image: Any) -> dict[str, Any]:  # noqa: ANN401
    for extension in image.header.extensions:
        if extension.get_code() == COMMENT:
            content = extension.get_content()
            text = content if isinstance(content, str) else content.decode("latin-1")
            if notes := unpack_notes(text):
                return notes
    return {}


def _description(layout: Layout) -> str:
    simulated = "; simulated" if layout.notes.get("simulated") else ""
    return f"cellseg3d; unit {layout.intensity_unit}{simulated}"

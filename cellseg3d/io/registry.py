"""Open, read and write volumes: the suffix picks the format."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.atomic import environment_fault
from cellseg3d.core.errors import (
    EnvironmentFault,
    FormatError,
    LabelError,
    SpacingError,
)
from cellseg3d.core.grid import blocks
from cellseg3d.core.memory import check_memory
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import IntensityUnit, Volume
from cellseg3d.io.finite import check_finite
from cellseg3d.io.layout import Layout, Request, notes_of
from cellseg3d.io.region_writer import RegionWriter, partial_path, remove
from cellseg3d.io.sniff import (
    SUFFIXES,
    check_format,
    check_path,
    natural_key,
    volume_suffix,
)

FORMATS = {
    "tiff": "cellseg3d.io.tiff",
    "nifti": "cellseg3d.io.nifti",
    "mrc": "cellseg3d.io.mrc",
    "hdf5": "cellseg3d.io.hdf5",
    "zarr": "cellseg3d.io.ome_zarr",
    "png": "cellseg3d.io.slices",
    "folder": "cellseg3d.io.slices",
}
LABEL_DTYPES = ("u1", "u2", "u4", "u8")
# Voxels moved at a time when a volume is copied or scanned, in bytes.
COPY_BYTES = 2**26


def open_volume(
    path: Path | str,
    *,
    inner: str | None = None,
    level: int = 0,
    spacing: Spacing | Sequence[float] | None = None,
    channel: int | None = None,
) -> Volume:
    """Open a volume; its voxels are read when they are indexed.

    Parameters
    ----------
    path : Path or str
        A file or folder; ``file.h5::raw`` names a dataset in it.
    inner : str, optional
        The same, given apart.
    level : int
        Level of a pyramid, 0 being full size.
    spacing : Spacing or three floats, optional
        Voxel edges (z, y, x) in um, for a file that has none or wrong ones.
    channel : int, optional
        Which channel of a file that holds several.

    Returns
    -------
    Volume
        Axes (z, y, x); spacing None when unknown; ``provenance["warnings"]`` lists
        what is odd about the file.

    Raises
    ------
    FormatError, AxisError, SpacingError
        If the file is not what it says, or not one volume.
    EnvironmentFault
        If it may not be read.
    """
    file, inner = split_inner(path, inner)
    check_path(file)
    kind = _kind(file)
    if inner and kind not in ("hdf5", "zarr"):
        raise FormatError(f"{file}: ::{inner} names a dataset; only HDF5 and Zarr do")
    if level and kind != "zarr":
        raise FormatError(f"{file}: no pyramid, level {level} does not exist")
    if kind not in ("zarr", "folder"):
        check_format(file, kind)
    request = Request(inner, level, channel)
    try:
        volume = _module(kind).open_file(file, request)
    except SpacingError:
        if spacing is None or kind != "nifti":
            raise
        volume = _module(kind).open_file(file, request, ignore_affine=True)
    return _with_spacing(volume, spacing)


def read_volume(
    path: Path | str,
    *,
    inner: str | None = None,
    level: int = 0,
    spacing: Spacing | Sequence[float] | None = None,
    channel: int | None = None,
) -> Volume:
    """Read a volume into memory, complete and finite.

    Parameters
    ----------
    path, inner, level, spacing, channel
        As for `open_volume`.

    Raises
    ------
    NonFiniteError
        If a voxel is NaN or infinite, with their number and the first one's place.
    EnvironmentFault
        If it needs more memory than there is.
    FormatError, AxisError, SpacingError
        As for `open_volume`.
    """
    volume = open_volume(
        path, inner=inner, level=level, spacing=spacing, channel=channel
    )
    check_memory(_nbytes(volume), volume.name)
    array = volume.read()
    check_finite(array, volume.name)
    return volume.with_array(array)


def read_labels(
    path: Path | str,
    *,
    inner: str | None = None,
    level: int = 0,
    spacing: Spacing | Sequence[float] | None = None,
    channel: int | None = None,
) -> Volume:
    """Read a label volume into memory; ids are exact and of the smallest dtype.

    Parameters
    ----------
    path, inner, level, spacing, channel
        As for `open_volume`.

    Returns
    -------
    Volume
        Of uint8, uint16, uint32 or uint64, the smallest that holds the largest id.

    Raises
    ------
    LabelError
        If a value is negative or no integer.
    """
    volume = read_volume(
        path, inner=inner, level=level, spacing=spacing, channel=channel
    )
    return volume.with_array(as_labels(volume.read(), volume.name))


def write_volume(path: Path | str, volume: Volume) -> Path:
    """Write a volume, exactly; the suffix of `path` picks the format.

    Parameters
    ----------
    path : Path or str
        ``.tif .tiff .ome.tif .nii .nii.gz .mrc .rec .h5 .hdf5 .zarr .ome.zarr .png``,
        or a name without suffix for a folder of PNG slices. What stands there is
        replaced when the new file is complete.
    volume : Volume
        In memory or lazy; copied part by part.

    Returns
    -------
    Path
        Where the volume lies.

    Raises
    ------
    FormatError
        If the format cannot hold the dtype exactly.
    EnvironmentFault
        If the disk is full or refuses.
    """
    return _write(Path(path), volume, labels=False)


def write_labels(path: Path | str, volume: Volume) -> Path:
    """Write a label volume with the smallest unsigned dtype that holds its ids.

    Parameters
    ----------
    path : Path or str
        As for `write_volume`.
    volume : Volume
        Integers >= 0 (or floats that are all integers), shape (Z, Y, X).

    Raises
    ------
    LabelError
        If a value is negative or no integer.
    FormatError
        If the format cannot hold the largest id.
    """
    largest = 0
    for roi in _slabs(volume):
        part = volume.read(roi)
        largest = max(largest, int(as_labels(part, volume.name).max(initial=0)))
    dtype = _label_dtype(largest)
    return _write(Path(path), volume, labels=True, dtype=dtype)


def create_volume(  # noqa: PLR0913 - one fact of the file each, all but three optional
    path: Path | str,
    shape: Sequence[int],
    dtype: Any,  # noqa: ANN401 - whatever numpy takes for a dtype
    *,
    spacing: Spacing | None = None,
    intensity_unit: IntensityUnit = "arbitrary",
    affine_mm: NDArray[np.float64] | None = None,
    chunk: Sequence[int] | int | None = None,
    metadata: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> RegionWriter:
    """Begin a volume that is written region by region and may exceed memory.

    Parameters
    ----------
    path : Path or str
        The name it will have when closed; until then it lies in ``NAME.partial``.
    shape : sequence of int
        Shape (Z, Y, X), in voxels.
    dtype : dtype
        Type of a voxel.
    spacing : Spacing, optional
        Voxel edges in um.
    intensity_unit : {"1/um", "arbitrary"}
        Unit of the values.
    affine_mm : ndarray, shape (4, 4), optional
        For NIfTI.
    chunk : sequence of int or int, optional
        Zarr: the shard, the unit that separate processes may write at once. HDF5: the
        chunk. Other formats have none.
    metadata : mapping, optional
        JSON values to keep in the file; ``"labels": True`` for label or instance ids.
    resume : bool
        Go on with a ``NAME.partial`` that is there (Zarr alone); else begin anew.

    Returns
    -------
    RegionWriter
        With ``write(roi, array)``, ``close()`` and ``abort()``.

    Raises
    ------
    FormatError
        If the format cannot hold the dtype, or the partial does not fit.
    EnvironmentFault
        If the disk is full or refuses.
    """
    file = Path(path)
    notes = dict(metadata or {})
    labels = bool(notes.pop("labels", False))
    layout = Layout(
        zyx(list(shape)),
        np.dtype(dtype),
        spacing,
        intensity_unit,
        affine_mm,
        notes,
        None if chunk is None else zyx(chunk),
        labels,
    )
    return _begin(file, layout, resume=resume)


def list_volumes(folder: Path | str) -> list[Path]:
    """Return the volumes that lie in a folder, in natural order of their names.

    Hidden and unfinished files do not count; a folder counts if its name ends in a
    volume's suffix.

    Raises
    ------
    FormatError
        If `folder` is no folder or holds no volume.
    """
    place = Path(folder)
    check_path(place)
    if not place.is_dir():
        raise FormatError(f"{place}: not a folder")
    found = [
        path
        for path in place.iterdir()
        if volume_suffix(path.name) and not path.name.startswith(".")
    ]
    if not found:
        raise FormatError(
            f"{place}: no volumes found; looked for {', '.join(sorted(SUFFIXES))}"
        )
    return sorted(found, key=lambda path: natural_key(path.name))


def split_inner(path: Path | str, inner: str | None) -> tuple[Path, str | None]:
    """Return the file and the path inside it, from ``file.h5::raw`` or apart."""
    name, mark, inside = str(path).partition("::")
    if mark and inner and inner.strip("/") != inside.strip("/"):
        raise FormatError(f"{name}: both {inside!r} and {inner!r} are named")
    chosen = inside or inner
    return Path(name), chosen.strip("/") if chosen else None


def as_labels(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return label ids in the smallest unsigned dtype, every value the same.

    Raises
    ------
    LabelError
        If a value is negative or no integer.
    """
    if array.dtype.kind == "f":
        odd = np.nonzero(~(np.isfinite(array) & (np.rint(array) == array)).ravel())[0]
        if odd.size:
            raise LabelError(
                f"{name}: {odd.size} label values are no integers (such as "
                f"{array.ravel()[odd[0]]}); is this an image, or resampled smoothly?"
            )
    if not array.size:
        return array.astype(np.uint8)
    smallest, largest = array.min(), array.max()
    if smallest < 0:
        raise LabelError(f"{name}: label values down to {smallest}; expected 0 or more")
    return array.astype(_label_dtype(int(largest)), copy=False)


def _label_dtype(largest: int) -> np.dtype[Any]:
    for kind in LABEL_DTYPES:
        if largest <= np.iinfo(kind).max:
            return np.dtype(kind)
    raise LabelError(f"label {largest} fits no integer type")


def _write(
    path: Path, volume: Volume, *, labels: bool, dtype: np.dtype[Any] | None = None
) -> Path:
    notes = {key: value for key, value in notes_of(volume).items() if key != "labels"}
    layout = Layout(
        volume.shape,
        dtype or volume.dtype,
        volume.spacing,
        volume.intensity_unit if not labels else "arbitrary",
        volume.affine_mm,
        notes,
        None,
        labels,
    )
    with _begin(path, layout) as writer:
        for roi in _slabs(volume, writer.unit):
            writer.write(roi, volume.read(roi))
    return path


def _begin(path: Path, layout: Layout, *, resume: bool = False) -> RegionWriter:
    kind = _kind_to_write(path)
    module = _module(kind)
    partial = partial_path(path)
    try:
        if not path.parent.is_dir():
            raise EnvironmentFault(f"{path}: its folder does not exist; make it first")
        if resume and partial.exists() and hasattr(module, "resume"):
            return RegionWriter(path, module.resume(partial, layout), layout)
        remove(partial)
        return RegionWriter(path, module.create(partial, layout), layout)
    except OSError as error:
        remove(partial)
        raise environment_fault(error, path) from error
    except FormatError as error:
        raise FormatError(str(error).replace(str(partial), str(path))) from error


def _slabs(volume: Volume, unit: Sequence[int] | None = None) -> list[Roi]:
    """Return whole slices (or rows of shards) that together are about COPY_BYTES."""
    _, y, x = volume.shape
    depth = max(1, COPY_BYTES // max(1, y * x * volume.dtype.itemsize))
    step = unit[0] if unit is not None else 1
    depth = max(step, depth // step * step)
    return list(blocks(volume.shape, (depth, max(1, y), max(1, x))))


def _kind(path: Path) -> str:
    suffix = volume_suffix(path.name)
    if path.is_dir():
        return "zarr" if _is_zarr(path) or SUFFIXES.get(suffix) == "zarr" else "folder"
    if suffix and SUFFIXES[suffix] != "zarr":
        return SUFFIXES[suffix]
    if SUFFIXES.get(suffix) == "zarr":
        raise FormatError(f"{path}: a file; Zarr is a folder")
    raise FormatError(
        f"{path}: unknown suffix; expected one of {', '.join(sorted(SUFFIXES))}"
    )


def _kind_to_write(path: Path) -> str:
    suffix = volume_suffix(path.name)
    if suffix:
        return SUFFIXES[suffix]
    if path.suffix:
        raise FormatError(
            f"{path}: cannot write {path.suffix}; expected one of "
            f"{', '.join(sorted(SUFFIXES))}, or no suffix for a folder of PNG"
        )
    return "folder"


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def _module(kind: str) -> Any:  # noqa: ANN401
    return import_module(FORMATS[kind])


def _nbytes(volume: Volume) -> int:
    z, y, x = volume.shape
    return z * y * x * volume.dtype.itemsize


def _with_spacing(volume: Volume, spacing: Spacing | Sequence[float] | None) -> Volume:
    """Return a volume with the edges the user gave; they win over the file's."""
    if spacing is None:
        return volume
    chosen = spacing if isinstance(spacing, Spacing) else Spacing.of(list(spacing))
    affine = volume.affine_mm
    if affine is not None:
        edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
        affine = affine.copy()
        affine[:3, :3] *= np.divide(chosen.zyx[::-1], 1e3) / edges_mm
    return replace(volume, spacing=chosen, affine_mm=affine)

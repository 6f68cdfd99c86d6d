"""Write volumes and labels, whole or region by region."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.atomic import (
    environment_fault,
    sweep_orphans,
    temporary_name,
    writer_of,
)
from cellseg3d.core.errors import EnvironmentFault, FormatError, LabelError
from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import IntensityUnit, Volume
from cellseg3d.io.formats import kind_to_write, module_of
from cellseg3d.io.labels import as_labels, label_dtype
from cellseg3d.io.layout import Layout, notes_of
from cellseg3d.io.output.ownership import check_replaceable
from cellseg3d.io.output.region_writer import (
    RegionWriter,
    partial_path,
    remove,
    restore,
)

OmeZarr = Literal["0.4", "0.5"]
# Bytes of voxels that are read at a time when a volume is copied or checked.
COPY_BYTES = 2**23


def write_volume(
    path: Path | str, volume: Volume, *, ome_zarr: OmeZarr = "0.5"
) -> Path:
    """Write a volume with exactly its values; the suffix of `path` sets the format.

    Parameters
    ----------
    path : Path or str
        ``.tif .tiff .ome.tif .nii .nii.gz .mrc .rec .h5 .hdf5 .zarr .ome.zarr .png``,
        or a name without suffix for a folder of PNG slices. An existing file is
        replaced once the new one is complete.
    volume : Volume
        The volume. It is copied part by part, so it may be lazy and larger than
        memory. Several channels are written with their names, in formats that hold
        them.
    ome_zarr : {"0.5", "0.4"}
        The version of OME-Zarr, for ``.zarr``.

    Returns
    -------
    Path
        The path of the file or folder.

    Raises
    ------
    FormatError
        If the format cannot hold the dtype exactly.
    EnvironmentFault
        If the disk is full or not writable.

    Examples
    --------
    >>> import cellseg3d
    >>> cell = cellseg3d.simulate_case(24, seed=1)
    >>> path = cellseg3d.write_volume("cell.ome.tif", cell.tomogram)
    >>> cellseg3d.read_volume(path).spacing == cell.tomogram.spacing
    True
    """
    return _write(Path(path), volume, volume.dtype, labels=False, version=ome_zarr)


def write_labels(
    path: Path | str, volume: Volume, *, ome_zarr: OmeZarr = "0.5"
) -> Path:
    """Write labels in the smallest unsigned dtype that holds them.

    Parameters
    ----------
    path : Path or str
        As for `write_volume`.
    volume : Volume
        Integers >= 0 (or floats that are all integers), shape (Z, Y, X).
    ome_zarr : {"0.5", "0.4"}
        The version of OME-Zarr, for ``.zarr``.

    Returns
    -------
    Path
        The path of the file or folder.

    Raises
    ------
    LabelError
        If a value is negative or not an integer.
    FormatError
        If the format cannot hold the largest label.
    EnvironmentFault
        If the disk is full or not writable.

    Examples
    --------
    >>> import cellseg3d
    >>> cell = cellseg3d.simulate_case(24, seed=1)
    >>> path = cellseg3d.write_labels("cell_labels.nii.gz", cell.labels)
    >>> cellseg3d.read_labels(path).dtype.name
    'uint8'
    """
    if volume.channels > 1:
        raise LabelError(
            f"{volume.name}: has {volume.channels} channels, but labels have one; "
            "choose it with `channel`"
        )
    volume = volume.channel(0)
    largest = 0
    for roi in slabs(volume):
        part = volume.read(roi)
        largest = max(largest, int(as_labels(part, volume.name).max(initial=0)))
    dtype = label_dtype(largest)
    return _write(Path(path), volume, dtype, labels=True, version=ome_zarr)


def create_volume(  # noqa: PLR0913 - each is a fact about the file, and all but three are optional
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
    """Create a volume that is written region by region and may exceed memory.

    Parameters
    ----------
    path : Path or str
        The name of the volume once it is closed.
    shape : sequence of int
        Shape (Z, Y, X), in voxels.
    dtype : dtype
        Type of a voxel.
    spacing : Spacing, optional
        Voxel edges in um.
    intensity_unit : {"1/um", "arbitrary"}
        Unit of the values.
    affine_mm : ndarray of float64, shape (4, 4), optional
        The affine of a NIfTI file; other formats do not keep it.
    chunk : sequence of int or int, optional
        For Zarr, the shape (z, y, x) of a shard, which only one process may write at a
        time. For HDF5, the shape of a chunk. Other formats have neither.
    metadata : mapping, optional
        JSON values to keep in the file. Two of them change how it is written:
        ``"labels": True`` says that the values are labels or ids of objects, and
        ``"ome_zarr": "0.4"`` sets the version of OME-Zarr.
    resume : bool
        Whether to keep the unfinished volume as ``NAME.partial``, and to go on with it
        if it exists and the format allows it (`can_resume`);
        `RegionWriter.resumed` says whether this happened. Only one process may call
        this for a name. Without `resume` the unfinished volume has a unique name, and
        the next writer in the folder removes it if its process died.

    Returns
    -------
    RegionWriter
        Its methods are ``write(roi, array)``, ``close()`` and ``abort()``.

    Raises
    ------
    FormatError
        If the format cannot hold the dtype, or the unfinished volume is another one.
    EnvironmentFault
        If the disk is full or not writable.
    """
    file = Path(path)
    notes = dict(metadata or {})
    labels = bool(notes.pop("labels", False))
    version = str(notes.pop("ome_zarr", "0.5"))
    layout = Layout(
        zyx(list(shape)),
        np.dtype(dtype),
        spacing,
        intensity_unit,
        affine_mm,
        notes,
        None if chunk is None else zyx(chunk),
        labels,
        version,
    )
    return _begin(file, layout, resume=resume)


def can_resume(path: Path) -> bool:
    """Return whether the format can go on with an unfinished volume after a crash."""
    return hasattr(module_of(kind_to_write(path)), "resume")


def _write(
    path: Path, volume: Volume, dtype: np.dtype[Any], *, labels: bool, version: OmeZarr
) -> Path:
    notes = {key: value for key, value in notes_of(volume).items() if key != "labels"}
    if volume.channel_names and not labels:
        notes["channel_names"] = list(volume.channel_names)
    several = ("C", volume.channels) if volume.channels > 1 else None
    layout = Layout(
        volume.shape,
        dtype,
        volume.spacing,
        volume.intensity_unit if not labels else "arbitrary",
        volume.affine_mm,
        notes,
        None,
        labels,
        version,
        several,
    )
    with _begin(path, layout) as writer:
        _copy(volume.each_channel(), writer)
    return path


def write_times(path: Path, volumes: Sequence[Volume], *, labels: bool) -> Path:
    """Write time points into one file, which has an axis for them.

    Parameters
    ----------
    path : Path
        The name of the file; its suffix picks the format.
    volumes : sequence of Volume
        The time points in their order, of one shape, dtype and grid. They are copied
        part by part.
    labels : bool
        Whether their values are labels or ids of objects.

    Raises
    ------
    FormatError
        If the format holds no time points, or the volumes differ.
    EnvironmentFault
        If the disk is full or not writable.
    """
    first = volumes[0]
    for each in volumes[1:]:
        if each.shape != first.shape:
            raise FormatError(
                f"{each.name}: has shape {each.shape}, but the first time point has "
                f"{first.shape}; time points of one file need one shape"
            )
    dtype = np.result_type(*(each.dtype for each in volumes))
    notes = {key: value for key, value in notes_of(first).items() if key != "labels"}
    layout = Layout(
        first.shape,
        np.dtype(dtype),
        first.spacing,
        first.intensity_unit,
        first.affine_mm,
        notes,
        None,
        labels,
        leading=("T", len(volumes)),
    )
    with _begin(path, layout) as writer:
        _copy(volumes, writer)
    return path


def _copy(volumes: Sequence[Volume], writer: RegionWriter) -> None:
    """Copy channels or time points into a file, one behind another along z."""
    for number, volume in enumerate(volumes):
        offset = (number * volume.shape[0], 0, 0)
        for roi in slabs(volume, writer.unit):
            writer.write(roi.shift(offset), volume.read(roi))


def _begin(path: Path, layout: Layout, *, resume: bool = False) -> RegionWriter:
    module = module_of(kind_to_write(path))
    keep = resume and can_resume(path)
    partial = partial_path(path) if keep else temporary_name(path)
    check_replaceable(path)
    try:
        if not path.parent.is_dir():
            raise EnvironmentFault(
                f"{path}: its folder does not exist; create the folder first"
            )
        restore(path)
        if keep and partial.exists():
            sink = module.resume(partial, layout)
            return RegionWriter(path, partial, sink, layout, resumed=True)
        _refuse_second_writer(path)
        sweep_orphans(path.parent)
        return RegionWriter(path, partial, module.create(partial, layout), layout)
    except OSError as error:
        with suppress(OSError):  # the first error is the one to report
            remove(partial)
        raise environment_fault(error, path) from error
    except FormatError as error:
        raise FormatError(str(error).replace(str(partial), str(path))) from error


def _refuse_second_writer(path: Path) -> None:
    writer = writer_of(path)
    if writer is not None:
        raise EnvironmentFault(
            f"{path}: process {writer} is writing this file; wait until it has ended, "
            "or choose another name"
        )


def slabs(volume: Volume, unit: Sequence[int] | None = None) -> Iterator[Roi]:
    """Yield boxes of about `COPY_BYTES` that cover a volume without overlap.

    Parameters
    ----------
    volume : Volume
        The volume to cover.
    unit : sequence of int, optional
        Shape (z, y, x) of the chunks: boxes consist of whole chunks, so that none is
        read or written twice. By default, the chunks of the volume's file, if any.
    """
    chunk = zyx(list(unit or volume.provenance.get("chunk") or (1, 1, 1)))
    each = volume.channels * volume.dtype.itemsize
    sides = [min(a, b) for a, b in zip(chunk, volume.shape, strict=True)]
    # Whole rows first, then whole slices, then several slices.
    for axis in (2, 1, 0):
        nbytes = math.prod(sides) * each
        times = max(1, COPY_BYTES // max(1, nbytes))
        sides[axis] = min(volume.shape[axis], sides[axis] * times)
    yield from blocks(volume.shape, sides)

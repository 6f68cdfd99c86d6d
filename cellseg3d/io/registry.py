"""Open, read and write volumes: the suffix picks the format."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from cellseg3d.core.errors import FormatError, SpacingError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.damage import reading
from cellseg3d.io.finite import check_finite
from cellseg3d.io.formats import kind_to_read, module_of
from cellseg3d.io.labels import as_labels
from cellseg3d.io.layout import Request
from cellseg3d.io.picking import check_read_as
from cellseg3d.io.region_writer import RegionWriter
from cellseg3d.io.sniff import (
    SUFFIXES,
    check_format,
    check_path,
    natural_key,
    volume_suffix,
)
from cellseg3d.io.writing import (
    can_resume,
    create_volume,
    write_labels,
    write_volume,
)

__all__ = [
    "RegionWriter",
    "can_resume",
    "create_volume",
    "list_volumes",
    "open_volume",
    "read_labels",
    "read_volume",
    "split_inner",
    "volume_suffix",
    "write_labels",
    "write_volume",
]

# A longer edge than this, in um, is no microscope's: a header in the wrong unit. Nor
# is one shorter than a fifth of an angstrom.
IMPLAUSIBLE_UM = (2e-5, 200.0)


class Opening(TypedDict, total=False):
    """How to open a volume; see `open_volume`."""

    inner: str | None
    level: int
    spacing: Spacing | Sequence[float] | None
    channel: int | None
    read_as: str | None
    labels: bool


def open_volume(
    path: Path | str,
    *,
    inner: str | None = None,
    level: int = 0,
    spacing: Spacing | Sequence[float] | None = None,
    channel: int | None = None,
    read_as: str | None = None,
    labels: bool = False,
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
    read_as : str, optional
        What an axis is, where the file does not say or says it wrongly: ``"slices"``,
        ``"channels"`` or ``"times"``; or a letter for each axis, such as ``"zyxc"``.
    labels : bool
        Take the labels of an HDF5 file that holds an image and its labels.

    Returns
    -------
    Volume
        Axes (z, y, x); spacing None when unknown; ``provenance["warnings"]`` lists
        what is odd about the file, ``provenance["told"]`` where the caller's word
        stands against the file's.

    Raises
    ------
    FormatError, AxisError, SpacingError
        If the file is not what it says, or not one volume.
    ConfigError
        If `read_as` is no word for axes.
    EnvironmentFault
        If it may not be read.

    Examples
    --------
    >>> import cellseg3d
    >>> cell = cellseg3d.simulate_case(24, seed=1)
    >>> path = cellseg3d.write_volume("opened.tif", cell.tomogram)
    >>> volume = cellseg3d.open_volume(path)
    >>> bool((volume.array[3:5, :, :] == cell.tomogram.array[3:5]).all())
    True
    """
    check_read_as(read_as)
    file, inner = split_inner(path, inner)
    check_path(file)
    kind = kind_to_read(file)
    if inner and kind not in ("hdf5", "zarr"):
        raise FormatError(f"{file}: ::{inner} names a dataset; only HDF5 and Zarr do")
    if level and kind != "zarr":
        raise FormatError(f"{file}: no pyramid, level {level} does not exist")
    if kind not in ("zarr", "folder"):
        check_format(file, kind)
    request = Request(inner, level, channel, read_as, labels)
    with reading(file):
        try:
            volume = module_of(kind).open_file(file, request)
        except SpacingError:
            if spacing is None or kind != "nifti":
                raise
            volume = module_of(kind).open_file(file, request, ignore_affine=True)
    if read_as is not None:
        volume = _told(volume, f"read as {read_as}, as you say")
    return _with_spacing(volume, spacing)


def read_volume(path: Path | str, **opening: Unpack[Opening]) -> Volume:
    """Read a volume into memory, complete and finite.

    Parameters
    ----------
    path, **opening
        As for `open_volume`.

    Raises
    ------
    NonFiniteError
        If a voxel is NaN or infinite, with their number and the first one's place.
    EnvironmentFault
        If it needs more memory than there is.
    FormatError, AxisError, SpacingError
        As for `open_volume`.

    Examples
    --------
    >>> import cellseg3d
    >>> cell = cellseg3d.simulate_case(24, seed=1)
    >>> path = cellseg3d.write_volume("read.mrc", cell.tomogram)
    >>> volume = cellseg3d.read_volume(path)
    >>> bool((volume.array == cell.tomogram.array).all()), volume.intensity_unit
    (True, '1/um')
    """
    volume = open_volume(path, **opening)
    check_memory(_nbytes(volume), volume.name)
    with reading(volume.name):
        array = volume.read()
    check_finite(array, volume.name)
    return volume.with_array(array)


def read_labels(path: Path | str, **opening: Unpack[Opening]) -> Volume:
    """Read a label volume into memory; ids are exact and of the smallest dtype.

    Parameters
    ----------
    path, **opening
        As for `open_volume`.

    Returns
    -------
    Volume
        Of uint8, uint16, uint32 or uint64, the smallest that holds the largest id.

    Raises
    ------
    LabelError
        If a value is negative or no integer.

    Examples
    --------
    >>> import cellseg3d
    >>> cell = cellseg3d.simulate_case(24, seed=1)
    >>> path = cellseg3d.write_labels("read_labels.mrc", cell.labels)
    >>> labels = cellseg3d.read_labels(path)
    >>> bool((labels.array == cell.labels.array).all()), labels.dtype.name
    (True, 'uint8')
    """
    opening["labels"] = True
    volume = read_volume(path, **opening)
    return volume.with_array(as_labels(volume.read(), volume.name))


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
    if Path(path).exists():
        return Path(path), inner
    name, mark, inside = str(path).partition("::")
    if mark and inner and inner.strip("/") != inside.strip("/"):
        raise FormatError(f"{name}: both {inside!r} and {inner!r} are named")
    chosen = inside or inner
    return Path(name), chosen.strip("/") if chosen else None


def _nbytes(volume: Volume) -> int:
    z, y, x = volume.shape
    return z * y * x * volume.dtype.itemsize


def _with_spacing(volume: Volume, spacing: Spacing | Sequence[float] | None) -> Volume:
    """Return a volume with the edges the user gave; they win over the file's."""
    if spacing is None:
        return _doubted(volume)
    chosen = spacing if isinstance(spacing, Spacing) else Spacing.of(list(spacing))
    affine = volume.affine_mm
    if affine is not None:
        edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
        affine = affine.copy()
        affine[:3, :3] *= np.divide(chosen.zyx[::-1], 1e3) / edges_mm
    stated = volume.spacing
    volume = replace(volume, spacing=chosen, affine_mm=affine)
    if stated is None or stated.is_close(chosen):
        return volume
    return _told(volume, f"spacing {chosen}, as you say; the file says {stated}")


def _told(volume: Volume, sentence: str) -> Volume:
    """Return a volume that says where the caller's word stands against the file's."""
    told = [*volume.provenance.get("told", ()), sentence]
    return replace(volume, provenance={**volume.provenance, "told": told})


def _doubted(volume: Volume) -> Volume:
    """Return a volume with a warning where its spacing cannot be a microscope's."""
    edges = volume.spacing
    least, most = IMPLAUSIBLE_UM
    if edges is None or (least <= min(edges.zyx) and max(edges.zyx) <= most):
        return volume
    known = list(volume.provenance.get("warnings", ()))
    known.append(
        f"spacing {edges} is implausible for microscopy (another unit in the header?); "
        "give `spacing_um`"
    )
    return replace(volume, provenance={**volume.provenance, "warnings": known})

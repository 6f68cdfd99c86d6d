"""Open and read volumes of any format; writing is in `writing`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from cellseg3d.core.channels import ArrayLike, ChosenChannels
from cellseg3d.core.errors import AxisError, ConfigError, FormatError, SpacingError
from cellseg3d.core.memory import check_memory
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.core.words import counted
from cellseg3d.io.damage import reading
from cellseg3d.io.finite import check_finite
from cellseg3d.io.formats import kind_to_read, module_of
from cellseg3d.io.labels import as_labels
from cellseg3d.io.layout import READ_AS, Request
from cellseg3d.io.output.region_writer import RegionWriter
from cellseg3d.io.output.writing import (
    can_resume,
    create_volume,
    write_labels,
    write_volume,
)
from cellseg3d.io.picking import channel_names_in, channel_number, check_read_as
from cellseg3d.io.sniff import (
    SUFFIXES,
    check_format,
    check_path,
    natural_key,
    volume_suffix,
)
from cellseg3d.io.strangers import strangers_in

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

# No microscope has voxel edges outside this range in um (0.2 angstrom to 0.2 mm): the
# header is then probably in another unit.
IMPLAUSIBLE_UM = (2e-5, 200.0)


# Several channels: their names or numbers in the order to read them; or how many there
# must be, which are then all read; or "all", however many there are.
Channels = int | str | Sequence[int | str]
ALL = "all"
# The key of a volume's provenance for the numbers of channels that the user chose.
CHANNEL_NUMBERS = "channel_numbers"


class Opening(TypedDict, total=False):
    """The keyword arguments of `open_volume`."""

    inner: str | None
    level: int
    spacing: Spacing | Sequence[float] | None
    channel: int | str | None
    channels: Channels | None
    time: int | None
    read_as: str | None
    labels: bool


def open_volume(  # noqa: PLR0913 - each is a fact about the file, and all are optional
    path: Path | str,
    *,
    inner: str | None = None,
    level: int = 0,
    spacing: Spacing | Sequence[float] | None = None,
    channel: int | str | None = None,
    channels: Channels | None = None,
    time: int | None = None,
    read_as: str | None = None,
    labels: bool = False,
) -> Volume:
    """Open a volume without reading it; voxels are read when they are indexed.

    Parameters
    ----------
    path : Path or str
        A file or folder; ``file.h5::raw`` names a dataset in it.
    inner : str, optional
        The dataset in the file, as an alternative to ``::``.
    level : int
        The level of an OME-Zarr pyramid; 0 is full size.
    spacing : Spacing or three floats, optional
        Voxel edges (z, y, x) in um, for a file that states none or wrong ones.
    channel : int or str, optional
        The channel or colour to read: its number, counted from 0, or its name. In a
        file without channels, the number of the time point.
    channels : int, "all" or sequence of int or str, optional
        Several channels, which the volume then holds in this order: their names or
        numbers; or how many the file must have, to read all of them; or ``"all"``.
    time : int, optional
        The time point to read, counted from 0.
    read_as : str, optional
        What the axes are, if the file does not say it or says it wrongly:
        ``"slices"``, ``"channels"`` or ``"times"`` for its third axis, or a letter for
        each axis, such as ``"zyxc"``.
    labels : bool
        Whether to take the labels from an HDF5 file that holds an image as well.

    Returns
    -------
    Volume
        The volume has the axes (z, y, x), or (c, z, y, x) for several channels, and
        the spacing None if it is unknown.
        ``provenance["warnings"]`` lists what is unusual about the file, and
        ``provenance["told"]`` where the caller contradicts the file.

    Raises
    ------
    FormatError, AxisError, SpacingError
        If the file is missing or damaged, has another format than its name states, or
        does not hold exactly one volume.
    ConfigError
        If `read_as` does not describe axes, or both `channel` and `channels` are given.
    EnvironmentFault
        If the user has no permission to read the file.

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
        raise FormatError(
            f"{file}: holds no dataset {inner}, since only HDF5 and Zarr files do; "
            f"name the file without ::{inner}"
        )
    if level and kind != "zarr":
        raise FormatError(
            f"{file}: has no level {level}, since only OME-Zarr holds a pyramid of "
            "levels; leave out `level`"
        )
    if kind not in ("zarr", "folder"):
        check_format(file, kind)
    if channels is not None and channel is not None:
        raise ConfigError(
            f"{file}: `channel` is {channel!r} and `channels` is {channels!r}; give "
            "only one of the two"
        )
    request = Request(
        inner,
        level,
        channel,
        read_as,
        labels,
        time=time,
        every_channel=channels is not None,
    )
    with reading(file):
        try:
            volume = module_of(kind).open_file(file, request)
        except SpacingError:
            if spacing is None or kind != "nifti":
                raise
            volume = module_of(kind).open_file(file, request, ignore_affine=True)
    volume = _with_channels(volume, channel, channels)
    if 0 in volume.shape:
        raise FormatError(
            f"{file}: holds no voxels, since its shape (z, y, x) is {volume.shape}; "
            "export it again"
        )
    if read_as is not None:
        volume = _told(volume, f"its axes are read as {read_as}, as you say")
        notes = {**volume.provenance, READ_AS: read_as}
        volume = replace(volume, provenance=notes)
    return _with_spacing(volume, spacing)


def read_volume(path: Path | str, **opening: Unpack[Opening]) -> Volume:
    """Read a whole volume into memory and check that its values are finite.

    Parameters
    ----------
    path, **opening
        As for `open_volume`.

    Raises
    ------
    NonFiniteError
        If a voxel is NaN or infinite.
    EnvironmentFault
        If the volume needs more memory than is available.
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
    check_memory(volume.nbytes, volume.name)
    with reading(volume.name):
        array = volume.read()
    check_finite(array, volume.name)
    return volume.with_array(array)


def read_labels(path: Path | str, **opening: Unpack[Opening]) -> Volume:
    """Read a volume of labels into memory, in the smallest dtype that holds them.

    Parameters
    ----------
    path, **opening
        As for `open_volume`.

    Returns
    -------
    Volume
        Labels of uint8, uint16, uint32 or uint64, shape (Z, Y, X).

    Raises
    ------
    LabelError
        If a value is negative or not an integer.
    NonFiniteError, EnvironmentFault, FormatError, AxisError, SpacingError
        As for `read_volume`.

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
    """Return the volumes in a folder, in natural order of their names.

    Hidden and unfinished files are left out. A folder in it is a volume if its name
    ends in a suffix such as ``.zarr``.

    Raises
    ------
    FormatError
        If `folder` is not a folder or holds no volume.
    """
    place = Path(folder)
    check_path(place)
    if not place.is_dir():
        raise FormatError(f"{place}: is a file; expected a folder of volumes")
    found = [
        path
        for path in place.iterdir()
        if volume_suffix(path.name) and not path.name.startswith(".")
    ]
    if not found:
        there = strangers_in(place)
        raise FormatError(
            f"{place}: holds no volumes; looked for {', '.join(sorted(SUFFIXES))}"
            f"{'; ' if there else ''}{there}"
        )
    return sorted(found, key=lambda path: natural_key(path.name))


def split_inner(path: Path | str, inner: str | None) -> tuple[Path, str | None]:
    """Return a file and the path of a dataset in it, from ``file.h5::raw``.

    Parameters
    ----------
    path : Path or str
        A path, with or without ``::`` and the name of a dataset.
    inner : str or None
        The name of the dataset, if it is not in `path`.

    Raises
    ------
    FormatError
        If both name a dataset, and the names differ.
    """
    if Path(path).exists():
        return Path(path), inner
    name, mark, inside = str(path).partition("::")
    if mark and inner and inner.strip("/") != inside.strip("/"):
        raise FormatError(
            f"{name}: two datasets are named, {inside!r} and {inner!r}; name one"
        )
    chosen = inside or inner
    return Path(name), chosen.strip("/") if chosen else None


def _with_channels(
    volume: Volume, channel: int | str | None, channels: Channels | None
) -> Volume:
    """Return a volume with the channels that the user wants, and their names."""
    names = channel_names_in(volume.provenance)
    if channels is None:
        if channel is None:
            return replace(volume, channel_names=tuple(names))
        if not names:
            return _noting_numbers(volume, [int(channel)])
        at = channel_number(channel, len(names), names, volume.name)
        return _noting_numbers(replace(volume, channel_names=(names[at],)), [at])
    count = volume.channels
    names = names if len(names) == count else []
    found = f"{volume.name}: has {counted(count, 'channel')}"
    if isinstance(channels, int) or channels == ALL:
        if channels not in (count, ALL):
            called = f", called {', '.join(names)}" if names else ""
            raise AxisError(
                f"{found}{called}; expected {channels}; choose them with `channels`"
            )
        return replace(volume, channel_names=tuple(names))
    numbers = tuple(channel_number(each, count, names, found) for each in channels)
    if len(set(numbers)) != len(numbers) or not numbers:
        raise AxisError(
            f"{found}, and `channels` is {list(channels)}; name each channel once"
        )
    if count == 1:
        return replace(volume, channel_names=tuple(names))
    array: ArrayLike = volume.array
    if numbers != tuple(range(count)):
        array = ChosenChannels(array, numbers)
    chosen = replace(
        volume,
        array=array,
        channel_names=tuple(names[number] for number in numbers) if names else (),
    )
    chosen = _noting_numbers(chosen, numbers)
    return chosen.channel(0) if len(numbers) == 1 else chosen


def _noting_numbers(volume: Volume, numbers: Sequence[int]) -> Volume:
    """Return a volume with the numbers in the file of the channels that were chosen."""
    notes = {**volume.provenance, CHANNEL_NUMBERS: list(numbers)}
    return replace(volume, provenance=notes)


def _with_spacing(volume: Volume, spacing: Spacing | Sequence[float] | None) -> Volume:
    """Return a volume with the spacing of the user, if any, or else of the file."""
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
    return _told(
        volume, f"its spacing is {chosen}, as you say, but the file states {stated}"
    )


def _told(volume: Volume, sentence: str) -> Volume:
    """Return a volume with one more sentence in ``provenance["told"]``."""
    told = [*volume.provenance.get("told", ()), sentence]
    return replace(volume, provenance={**volume.provenance, "told": told})


def _doubted(volume: Volume) -> Volume:
    """Return a volume with a warning if no microscope has such a spacing."""
    edges = volume.spacing
    least, most = IMPLAUSIBLE_UM
    if edges is None or (least <= min(edges.zyx) and max(edges.zyx) <= most):
        return volume
    known = list(volume.provenance.get("warnings", ()))
    known.append(
        f"its spacing of {edges} is implausible for microscopy, perhaps because the "
        "header has another unit; give `spacing_um`"
    )
    return replace(volume, provenance={**volume.provenance, "warnings": known})

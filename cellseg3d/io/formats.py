"""Choose the module that reads or writes a file, by its suffix or its first bytes."""

from importlib import import_module
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import FormatError
from cellseg3d.io.sniff import NAMES, SUFFIXES, true_format, volume_suffix
from cellseg3d.io.strangers import misnamed, way_out

FORMATS = {
    "tiff": "cellseg3d.io.tiff.volume",
    "nifti": "cellseg3d.io.nifti",
    "mrc": "cellseg3d.io.mrc",
    "hdf5": "cellseg3d.io.hdf5.volume",
    "zarr": "cellseg3d.io.zarr.volume",
    "png": "cellseg3d.io.slices",
    "folder": "cellseg3d.io.slices",
}


def kind_to_read(path: Path) -> str:
    """Return the format, a key of `FORMATS`, of a path that exists.

    The suffix decides; the first bytes decide for a file with an unknown suffix.

    Raises
    ------
    FormatError
        If neither belongs to a format that is read here.
    """
    suffix = volume_suffix(path.name)
    if path.is_dir():
        return (
            "zarr"
            if is_zarr_folder(path) or SUFFIXES.get(suffix) == "zarr"
            else "folder"
        )
    if suffix and SUFFIXES[suffix] != "zarr":
        return SUFFIXES[suffix]
    found = true_format(path)
    if SUFFIXES.get(suffix) == "zarr":
        way = "unpack it" if found == "zip" else "rename it after its true format"
        raise FormatError(f"{path}: is a file, but Zarr is a folder; {way}")
    if found in FORMATS and misnamed(path):
        raise FormatError(
            f"{path}: is {NAMES[found]}, not {path.suffix} as its name says; rename it"
        )
    if found in FORMATS and path.suffix.lower() != ".mat":
        return found
    way = way_out(path)
    if way:
        raise FormatError(
            f"{path}: files of the format {path.suffix} are not read; {way}"
        )
    raise FormatError(
        f"{path}: the suffix is unknown; expected one of {', '.join(sorted(SUFFIXES))}"
    )


def kind_to_write(path: Path) -> str:
    """Return the format, a key of `FORMATS`, for the name of a new file.

    A name without a suffix means a folder of PNG slices.

    Raises
    ------
    FormatError
        If the suffix belongs to no format that is written here.
    """
    suffix = volume_suffix(path.name)
    if suffix:
        return SUFFIXES[suffix]
    if path.suffix:
        raise FormatError(
            f"{path}: cannot write {path.suffix}; expected one of "
            f"{', '.join(sorted(SUFFIXES))}, or no suffix for a folder of PNG"
        )
    return "folder"


def is_zarr_folder(path: Path) -> bool:
    """Return whether a folder is a Zarr store, or a group or array of one."""
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def module_of(kind: str) -> Any:  # noqa: ANN401
    """Return the module of a format, with the functions ``open_file`` and ``create``.

    It is imported on first use, so that a command loads only the libraries it needs.
    """
    return import_module(FORMATS[kind])

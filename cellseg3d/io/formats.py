"""Which module reads and writes which format."""

from importlib import import_module
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import FormatError
from cellseg3d.io.sniff import SUFFIXES, true_format, volume_suffix

FORMATS = {
    "tiff": "cellseg3d.io.tiff.volume",
    "nifti": "cellseg3d.io.nifti",
    "mrc": "cellseg3d.io.mrc",
    "hdf5": "cellseg3d.io.hdf5",
    "zarr": "cellseg3d.io.zarr.volume",
    "png": "cellseg3d.io.slices",
    "folder": "cellseg3d.io.slices",
}


# Suffixes of other formats: a file of ours under such a name was renamed by mistake.
_PICTURES = (".jpg", ".jpeg", ".gif", ".bmp", ".webp")


def kind_to_read(path: Path) -> str:
    """Return the key in `FORMATS` of a path that exists.

    A file of an unknown suffix is what its first bytes say that it is.

    Raises
    ------
    FormatError
        If neither the suffix nor the first bytes are of a format read here.
    """
    suffix = volume_suffix(path.name)
    if path.is_dir():
        return "zarr" if _is_zarr(path) or SUFFIXES.get(suffix) == "zarr" else "folder"
    if suffix and SUFFIXES[suffix] != "zarr":
        return SUFFIXES[suffix]
    if SUFFIXES.get(suffix) == "zarr":
        raise FormatError(f"{path}: a file; Zarr is a folder")
    found = true_format(path)
    if found in FORMATS and path.suffix.lower() not in _PICTURES:
        return found
    raise FormatError(
        f"{path}: unknown suffix; expected one of {', '.join(sorted(SUFFIXES))}"
    )


def kind_to_write(path: Path) -> str:
    """Return the key in `FORMATS` for a name that is to be written.

    Raises
    ------
    FormatError
        If the suffix is none of ours; a name without one is a folder of slices.
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


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def module_of(kind: str) -> Any:  # noqa: ANN401
    """Return the module with ``open_file(path, request)`` and ``create(path, layout)``.

    Imported here, so that a command pays only for the format it meets.
    """
    return import_module(FORMATS[kind])

"""Say what a path really is before a library opens it."""

import os
import re
import stat
from pathlib import Path

from cellseg3d.core.errors import EnvironmentFault, FormatError

SUFFIXES = {
    ".ome.tiff": "tiff",
    ".ome.tif": "tiff",
    ".ome.zarr": "zarr",
    ".nii.gz": "nifti",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".btf": "tiff",
    ".tf8": "tiff",
    ".lsm": "tiff",
    ".nii": "nifti",
    ".mrc": "mrc",
    ".rec": "mrc",
    ".map": "mrc",
    ".ali": "mrc",
    ".preali": "mrc",
    ".st": "mrc",
    ".mrcs": "mrc",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".hdf": "hdf5",
    ".zarr": "zarr",
    ".png": "png",
}
NAMES = {
    "tiff": "TIFF",
    "nifti": "NIfTI",
    "gzip": "gzip",
    "mrc": "MRC",
    "hdf5": "HDF5",
    "zarr": "Zarr",
    "png": "PNG",
    "html": "an HTML page",
    "lfs": "a git-lfs pointer",
    "zip": "a zip archive",
    "jpeg": "JPEG",
    "xml": "XML",
}
HEAD_BYTES = 544


def volume_suffix(path: Path | str) -> str:
    """Return the suffix that says the format, in lower case, or ``""``.

    ``"cell.OME.tif"`` gives ``".ome.tif"``; an inner path after ``::`` counts nothing.
    """
    whole = str(path).rstrip("/").lower()
    # The whole first: a file's name may hold "::" itself.
    for name in (whole, whole.partition("::")[0]):
        for suffix in SUFFIXES:
            if name.endswith(suffix):
                return suffix
    return ""


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts ``s2`` before ``s10``."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def check_path(path: Path) -> None:
    """Refuse what is no regular file with bytes in it, and no folder.

    Raises
    ------
    FormatError
        If the path is missing, dangling, empty, a pipe, a socket or a device.
    EnvironmentFault
        If it may not be read.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        what = "a link to nothing" if path.is_symlink() else "no such file"
        raise FormatError(f"{path}: {what}; check the path") from error
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}; check the path") from error
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise FormatError(
            f"{path}: a pipe, socket or device; expected a file or a folder"
        )
    if not os.access(path, os.R_OK):
        raise EnvironmentFault(f"{path}: may not be read; ask for permission")
    if stat.S_ISREG(found.st_mode) and found.st_size == 0:
        raise FormatError(f"{path}: empty (0 bytes); copy it again")


def check_format(path: Path, expected: str) -> None:
    """Refuse a file whose first bytes are not those of the format its name says.

    Parameters
    ----------
    path : Path
        A regular file.
    expected : str
        ``"tiff"``, ``"nifti"``, ``"mrc"``, ``"hdf5"`` or ``"png"``.

    Raises
    ------
    FormatError
        Naming the true format where it is known.
    """
    found = true_format(path)
    wanted = "gzip" if path.name.lower().endswith(".gz") else expected
    if found == wanted or (found is None and expected in ("mrc", "nifti")):
        return
    if found == "lfs":
        raise FormatError(f"{path}: a git-lfs pointer, not the file; run git lfs pull")
    if found == "html":
        raise FormatError(
            f"{path}: an HTML page, not {NAMES[expected]} (a failed download?); "
            "download it again"
        )
    if found is None:
        raise FormatError(
            f"{path}: does not begin as {NAMES[expected]} does; it is damaged or "
            "another format"
        )
    raise FormatError(
        f"{path}: is {NAMES[found]}, not {NAMES[wanted]} as its name says; rename it"
    )


def true_format(path: Path) -> str | None:
    """Return the format that a file's first bytes say, or None."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be read ({error.strerror})") from error
    for start, name in _MAGIC:
        if head.startswith(start):
            return name
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "html"
    if text.startswith(b"<?xml"):
        return "xml"
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return "nifti"
    return "mrc" if head[208:212] in (b"MAP ", b"MAP\0") else None


_MAGIC = (
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\x1f\x8b", "gzip"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"PK\x03\x04", "zip"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"version https://git-lfs", "lfs"),
)

"""Find out what a path really is, before a library opens it."""

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
    "pair": "the header of a NIfTI in two files",
}
HEAD_BYTES = 2056


def volume_suffix(path: Path | str) -> str:
    """Return the suffix of a name that sets the format, in lower case, or ``""``.

    ``"cell.OME.tif"`` gives ``".ome.tif"``. A dataset's name after ``::`` is ignored.
    """
    whole = str(path).rstrip("/").lower()
    # The whole name is tried first, since a file's name may hold "::".
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
    """Raise an error if a path is neither a file with content nor a folder.

    Raises
    ------
    FormatError
        If the path does not exist, or is a broken link, an empty file, a pipe, a socket
        or a device.
    EnvironmentFault
        If the user has no permission to read it.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        what = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise FormatError(f"{path}: {what}; check the path") from error
    except OSError as error:
        raise FormatError(
            f"{path}: cannot be found ({error.strerror}); check the path"
        ) from error
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise FormatError(
            f"{path}: is a pipe, socket or device; expected a file or a folder"
        )
    if not os.access(path, os.R_OK):
        raise EnvironmentFault(
            f"{path}: you have no permission to read it; ask its owner for it"
        )
    if stat.S_ISREG(found.st_mode) and found.st_size == 0:
        raise FormatError(f"{path}: is empty (0 bytes); copy it again")


def check_format(path: Path, expected: str) -> None:
    """Raise an error if the first bytes of a file belong to another format.

    Parameters
    ----------
    path : Path
        A regular file.
    expected : str
        The format of its name: ``"tiff"``, ``"nifti"``, ``"mrc"``, ``"hdf5"`` or
        ``"png"``.

    Raises
    ------
    FormatError
        With the true format, if it is known.
    """
    found = true_format(path)
    wanted = "gzip" if path.name.lower().endswith(".gz") else expected
    if found == wanted or (found is None and expected in ("mrc", "nifti")):
        return
    if found == "lfs":
        raise FormatError(
            f"{path}: is a git-lfs pointer, not the file itself; run `git lfs pull`"
        )
    if found == "html":
        raise FormatError(
            f"{path}: is an HTML page, not {NAMES[expected]}: the download has "
            "probably failed; download it again"
        )
    if found is None:
        raise FormatError(
            f"{path}: does not begin as {NAMES[expected]} does: it is damaged or has "
            "another format; copy it again or rename it"
        )
    raise FormatError(
        f"{path}: is {NAMES[found]}, not {NAMES[wanted]} as its name says; rename it"
    )


def true_format(path: Path) -> str | None:  # noqa: PLR0911 - one for each sign
    """Return the format that a file's first bytes belong to, or None if unknown.

    Raises
    ------
    EnvironmentFault
        If the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be read ({error.strerror})") from error
    for start, name in _MAGIC:
        if head.startswith(start):
            return name
    # A block of the user's may precede the HDF5 file itself.
    if any(head[at : at + 8] == _HDF5 for at in (512, 1024, 2048)):
        return "hdf5"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "html"
    if text.startswith(b"<?xml"):
        return "xml"
    marks = {head[344:348], head[4:8]}
    if marks & {b"ni1\0", b"ni2\0"}:
        return "pair"
    if marks & {b"n+1\0", b"n+2\0"}:
        return "nifti"
    return "mrc" if head[208:212] in (b"MAP ", b"MAP\0") else None


_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAGIC = (
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\x1f\x8b", "gzip"),
    (_HDF5, "hdf5"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"PK\x03\x04", "zip"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"version https://git-lfs", "lfs"),
)

"""Protect files: do not replace folders of others, do not write over an input."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from cellseg3d.core.errors import ConfigError, EnvironmentFault
from cellseg3d.io.formats import is_zarr_folder

NOTES_FILE = "cellseg3d.json"
_NOTES = b'"cellseg3d"'
# Files that file browsers put into the folders that they show.
_LITTER = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\._.*")
_ZARR_FILE = re.compile(
    r"(?:\d+/)?(?:zarr\.json|\.zarray|\.zgroup|\.zattrs|\.zmetadata)"
    r"|\d+/(?:c/)?\d+(?:[./]\d+)*"
)
_SLICE_FILE = re.compile(r"z\d{4,}\.png|" + re.escape(NOTES_FILE))
_ZARR_NOTES = ("zarr.json", ".zattrs")


def check_replaceable(path: Path) -> None:
    """Raise an error if a folder holds files that this package did not write.

    A single file may be replaced, since the user has named it. A folder may hold other
    work of the user.

    Raises
    ------
    EnvironmentFault
        With the name of a file that would be lost.
    ConfigError
        If the path lies in a Zarr store.
    """
    _check_outside_stores(path)
    if not path.is_dir():
        return
    zarr = any(_mentions(path / name) for name in _ZARR_NOTES)
    slices = _mentions(path / NOTES_FILE)
    form = _ZARR_FILE if zarr else _SLICE_FILE if slices else None
    for file in _files(path):
        if form is None or not form.fullmatch(file):
            message = (
                f"{path}: is a folder that holds {file}, which cellseg3d did not "
                "write; choose another name, or move the folder away"
            )
            raise EnvironmentFault(message)


def _check_outside_stores(path: Path) -> None:
    """Refuse a file or folder inside a Zarr store, whose files belong together.

    Raises
    ------
    ConfigError
        With the name of the store.
    """
    for folder in _place(path).parents:
        if is_zarr_folder(folder):
            message = (
                f"{path}: lies inside of the Zarr store {folder}; choose a name "
                "outside of it"
            )
            raise ConfigError(message)


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path | str] = ()) -> None:
    """Raise an error, before work begins, if an output would replace another file.

    Names that differ only in case count as equal, as they do on many disks.

    Parameters
    ----------
    outputs : iterable of Path
        The files and folders that will be written.
    inputs : iterable of Path or str
        The files and folders that will be read; ``file.h5::raw`` means the file.

    Raises
    ------
    ConfigError
        If two outputs are one file, an output is, contains or lies in an input, or
        an output lies in a Zarr store.
    """
    read = [(given, _place(_file_of(given))) for given in inputs]
    seen: dict[str, Path] = {}
    for output in outputs:
        _check_outside_stores(output)
        place = _place(output)
        key = one_name(str(place))
        if key in seen:
            message = (
                f"{output}: {seen[key]} would get the same name; give one of them "
                "another name or another folder"
            )
            raise ConfigError(message)
        seen[key] = output
        for given, source in read:
            if _meets(place, source):
                message = (
                    f"{output}: would replace the input {given}; choose another name"
                )
                raise ConfigError(message)


def one_name(name: str) -> str:
    """Return the same text for all names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _meets(output: Path, source: Path) -> bool:
    if output == source or one_name(str(output)) == one_name(str(source)):
        return True
    if output.exists() and source.exists() and output.samefile(source):
        return True
    # Nothing may be written into a folder that is an input, and a folder that will be
    # replaced must not hold an input.
    inside = source.is_dir() and output.is_relative_to(source)
    return inside or source.is_relative_to(output)


def _file_of(given: Path | str) -> Path:
    path = Path(given)
    return path if path.exists() else Path(str(given).partition("::")[0])


def _place(path: Path) -> Path:
    """Return a path with all links resolved; the file need not exist."""
    return Path(os.path.realpath(path))


def _mentions(path: Path) -> bool:
    """Return whether a metadata file holds the notes that this package writes."""
    try:
        return path.is_file() and _NOTES in path.read_bytes()
    except OSError:
        return False


def _files(folder: Path) -> Iterator[str]:
    """Yield the paths of a folder's files and empty folders, relative to it."""
    for place, folders, names in os.walk(folder):
        here = Path(place).relative_to(folder)
        for name in names:
            if not _LITTER.fullmatch(name):
                yield (here / name).as_posix()
        # This package writes no links, so a link to a folder is the user's.
        for name in folders:
            if (Path(place) / name).is_symlink():
                yield (here / name).as_posix()
        if not names and not folders and Path(place) != folder:
            yield here.as_posix()

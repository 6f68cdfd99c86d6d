"""Detect whether the files of a volume have changed."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cellseg3d.core.errors import InputError

# Contents up to this many bytes are hashed. Above, names, sizes and times must do.
CHEAP_BYTES = 2**26
_LITTER = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\._.*")


def fingerprint(location: Path | str) -> str:
    """Return a hash that changes when a file, or a file in a folder, changes.

    Up to 64 MiB it is a hash of the content, the same for a copy. Above that, it is a
    hash of the names, sizes and times of change of all files, such as the chunks of a
    Zarr or the slices in a folder.

    Parameters
    ----------
    location : Path or str
        A file or a folder; ``file.h5::raw`` means the file.
    """
    path = file_of(location)
    files = sorted(_files(path))
    cheap = sum(size for _, size, _ in files) <= CHEAP_BYTES
    hasher = hashlib.sha256(b"content" if cheap else b"times")
    for name, size, changed in files:
        hasher.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        if cheap:
            hasher.update(_content(path, name))
        else:
            hasher.update(str(changed).encode())
    return hasher.hexdigest()


@contextmanager
def unchanged(locations: Iterable[Path | str]) -> Iterator[None]:
    """Raise an error at the end of a ``with`` block if a file has changed in it.

    Parameters
    ----------
    locations : iterable of Path or str
        The files and folders that the block reads; ``file.h5::raw`` means the file.

    Raises
    ------
    InputError
        With the name of the first file that has changed.
    """
    before = {str(each): state_of(each) for each in locations}
    yield
    for location, state in before.items():
        check_unchanged(location, state)


def state_of(location: Path | str) -> str:
    """Return a hash of the names, sizes and times of a file or of a folder's files."""
    listed = "\n".join(f"{each}" for each in sorted(_files(file_of(location))))
    return hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()


def check_unchanged(location: Path | str, state: str) -> None:
    """Raise an error if the `state_of` a file is no longer `state`.

    Raises
    ------
    InputError
        With the name of the file.
    """
    if state_of(location) != state:
        raise InputError(
            f"{location}: was changed while it was read, so the result would mix old "
            "and new data; run again when the file is complete"
        )


def file_of(location: Path | str) -> Path:
    """Return the file or folder of a location such as ``file.h5::raw``."""
    path = Path(location)
    return path if path.exists() else Path(str(location).partition("::")[0])


def _files(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of change of a file, or of all files in a folder."""
    if path.is_file():
        found = path.stat()
        yield "", found.st_size, found.st_mtime_ns
    for place, _, names in os.walk(path):
        for name in names:
            if _LITTER.fullmatch(name):
                continue
            file = Path(place) / name
            try:
                found = file.stat()
            except OSError:  # removed in the meantime, or a link to nothing
                continue
            inside = file.relative_to(path).as_posix()
            yield inside, found.st_size, found.st_mtime_ns


def _content(path: Path, name: str) -> bytes:
    with (path / name if name else path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

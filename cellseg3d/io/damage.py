"""Turn errors of libraries about damaged files into one-line errors.

A mistake of this package must not look like a damaged file, so only errors that a
library raised are turned.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from cellseg3d.core.errors import CellSegError, EnvironmentFault, FormatError

# The libraries that decode files: their errors are about the file.
LIBRARIES = (
    "tifffile",
    "imagecodecs",
    "zarr",
    "numcodecs",
    "h5py",
    "nibabel",
    "PIL",
    "mrcfile",
    "gzip",
    "zlib",
    "xml",
)
# Errors from their compiled code, which leaves no frame of the library in a traceback.
_READ_ERRORS = (OSError, EOFError, zlib.error, struct.error)
# Parts of the system's messages about a file that another program has locked.
_LOCKED = ("unable to lock file", "resource temporarily unavailable")


@contextmanager
def reading(name: Path | str) -> Iterator[None]:
    """Raise a library's error about a damaged file as one line that names the file.

    Other errors, which are mistakes of this package, pass unchanged.

    Raises
    ------
    FormatError
        With the library's message, if the file is damaged.
    EnvironmentFault
        If another program has locked the file.
    """
    try:
        yield
    except (CellSegError, MemoryError):
        raise
    except Exception as error:
        if not is_read_error(error):
            raise
        raise damaged(name, error) from error


def damaged(name: Path | str, error: Exception, part: str = "") -> CellSegError:
    """Return the error of this package for a library's error about a file.

    Parameters
    ----------
    name : Path or str
        The file.
    error : Exception
        The library's error.
    part : str
        The part of the file that was read, such as ``"page 3"``; ``""`` if unknown.

    Returns
    -------
    FormatError or EnvironmentFault
        The latter if another program has locked the file.
    """
    said = " ".join(str(error).split())
    if any(words in said.lower() for words in _LOCKED):
        return EnvironmentFault(
            f"{name}: another program has the file open for writing ({said}); close it "
            "there and try again"
        )
    what = part or "the file"
    return FormatError(
        f"{name}: {what} cannot be read and may be damaged ({type(error).__name__}: "
        f"{said}); copy it again"
    )


def is_read_error(error: Exception) -> bool:
    """Return whether a library that decodes files raised an error.

    This is so if the error's class belongs to a library or is a read error of the
    system, or if a library's function was called after the last one of this package.
    """
    if isinstance(error, _READ_ERRORS) or _library(type(error).__module__):
        return True
    below = False
    for module in _modules(error.__traceback__):
        if module.partition(".")[0] == "cellseg3d":
            below = False
        elif _library(module):
            below = True
    return below


def _library(module: str) -> bool:
    return module.partition(".")[0].lstrip("_") in LIBRARIES


def _modules(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next

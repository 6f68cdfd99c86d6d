"""Tell a damaged file, which a library refuses, from a mistake of our own."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from cellseg3d.core.errors import CellSegError, EnvironmentFault, FormatError

# The libraries that decode files; what they raise, they raise about the file.
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
# What they raise from compiled code, which leaves no frame of theirs.
_READ_ERRORS = (OSError, EOFError, zlib.error, struct.error)
# Messages of the system about a file that another program holds.
_LOCKED = ("unable to lock file", "resource temporarily unavailable")


@contextmanager
def reading(name: Path | str) -> Iterator[None]:
    """Turn what a library raises about a damaged file into one line that names it.

    An error that no library raised is a mistake of this package; it comes through as
    it is, so that nobody copies a sound file again because of it.

    Raises
    ------
    FormatError
        With the library's words.
    EnvironmentFault
        If another program holds the file.
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
    """Return the error of this package that says what a library said about a file.

    Parameters
    ----------
    name : Path or str
        The file.
    error : Exception
        What the library raised.
    part : str
        Which part of the file it was reading, such as ``"page 3"``.
    """
    said = " ".join(str(error).split())
    if any(words in said.lower() for words in _LOCKED):
        return EnvironmentFault(
            f"{name}: another program holds it open for writing ({said}); close it "
            "there and try again"
        )
    what = f"{part} cannot be read" if part else "damaged, cannot be read"
    return FormatError(
        f"{name}: {what} ({type(error).__name__}: {said}); copy it again"
    )


def is_read_error(error: Exception) -> bool:
    """Whether a library that decodes files raised an error, rather than this package.

    It did if the error's class is a library's or one of the system's read errors, or
    if the call went through a library below the last function of this package.
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

"""Write a volume region by region; the file gets its name when it is complete."""

import errno
import shutil
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.atomic import (
    OLD_MARK,
    environment_fault,
    set_aside,
    sync,
    temporary_name,
)
from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.errors import CoverageError, EnvironmentFault, FormatError
from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.io.layout import Layout, Sink

PARTIAL = ".partial"
_ATTEMPTS = 20
_PAUSE_S = 0.05
# The error number of Windows for a file that is open elsewhere.
_IN_USE = 32


def partial_path(path: Path) -> Path:
    """Return the path of an unfinished volume that a later run can go on with."""
    return path.with_name(f"{path.name}{PARTIAL}")


class RegionWriter:
    """An unfinished volume on disk.

    It may be sent to other processes, which write regions; only one process closes it.
    As a context manager it closes the volume at the end, or removes it after an error.

    Parameters
    ----------
    path : Path
        The name of the complete volume.
    partial : Path
        The name until it is complete.
    sink : Sink
        The format's writer of the file at `partial`.
    layout : Layout
        Shape, dtype and metadata of the volume.
    resumed : bool
        Whether the volume holds regions that an earlier run wrote.
    """

    def __init__(
        self,
        path: Path,
        partial: Path,
        sink: Sink,
        layout: Layout,
        *,
        resumed: bool = False,
    ) -> None:
        self.path, self.partial, self.sink, self.layout = path, partial, sink, layout
        self.resumed = resumed
        # What was there was to be replaced; what comes meanwhile was not.
        self._may_replace = resumed or path.exists()

    @property
    def shape(self) -> Zyx:
        """Shape of the volume (Z, Y, X); see `Layout.stacked`."""
        return self.layout.stacked

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a voxel."""
        return self.layout.dtype

    @property
    def unit(self) -> Zyx | None:
        """Shape (z, y, x) that one process writes at a time; None for any."""
        return getattr(self.sink, "unit", None)

    @property
    def array(self) -> ArrayLike:
        """The voxels written so far, as a lazy array; only if `can_resume`."""
        sink: Any = self.sink
        written: ArrayLike = sink.array()
        return written

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Write the voxels of one region.

        Parameters
        ----------
        roi : Roi
            The region, which must lie in the volume.
        array : ndarray, shape (z, y, x) of the region
            The voxels. They may have another dtype if every value fits exactly.

        Raises
        ------
        CoverageError
            If the region leaves the volume or has another shape than the array.
        FormatError
            If a value does not fit into the volume's dtype.
        EnvironmentFault
            If the disk is full or not writable.
        """
        if tuple(array.shape) != roi.shape or not Roi.whole(self.shape).contains(roi):
            raise CoverageError(
                f"{self.path}: an array of shape {array.shape} does not fit region "
                f"{roi} of a volume of shape {self.shape}"
            )
        if not np.can_cast(array.dtype, self.dtype, "safe"):
            array = exact_cast(array, self.dtype, str(self.path))
        try:
            self.sink.write(roi, array)
        except OSError as error:
            raise environment_fault(error, self.path) from error

    def close(self) -> Path:
        """Complete the volume, give it its name and return the path.

        Raises
        ------
        EnvironmentFault
            If the disk is full or not writable; a volume that existed is kept. Also
            if another process wrote a volume of this name in the meantime.
        """
        try:
            self.sink.close()
            _sync(self.partial)
            if not self._may_replace:
                self._keep_newcomer()
            give_name(self.partial, self.path)
        except OSError as error:
            raise environment_fault(error, self.path) from error
        return self.path

    def _keep_newcomer(self) -> None:
        try:
            refuse_newcomer(self.path)
        except EnvironmentFault:
            self.abort()
            raise

    def abort(self) -> None:
        """Remove the unfinished volume, as far as the system allows it."""
        with suppress(OSError):  # the error before this is the one to report
            remove(self.partial)

    def __enter__(self) -> "RegionWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()
            return
        try:
            self.close()
        except BaseException:
            self.abort()
            raise


def refuse_newcomer(path: Path) -> None:
    """Raise an error if a volume that was not there when the work began is there now.

    Raises
    ------
    EnvironmentFault
        If the path exists; the file is kept.
    """
    if path.exists():
        message = (
            f"{path}: another process wrote it in the meantime, and that file was "
            "kept; choose another name"
        )
        raise EnvironmentFault(message)


def exact_cast(array: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Return an array in another dtype, with exactly the same values.

    Raises
    ------
    FormatError
        If a value does not fit into the dtype.
    """
    if array.dtype == dtype or np.can_cast(array.dtype, dtype, "safe"):
        return array.astype(dtype, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(dtype)
    same = cast == array
    if array.dtype.kind == "f" and dtype.kind == "f":
        same |= np.isnan(array) & np.isnan(cast)
    if not same.all():
        wrong = array[~same].flat[0]
        raise FormatError(
            f"{name}: the value {wrong} of {array.dtype} does not fit into {dtype} "
            "exactly; convert the values first"
        )
    return cast


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists.

    After a failed write, Zarr's threads may still write into the folder; the removal is
    repeated for a second until they have ended.
    """
    for attempt in range(_ATTEMPTS):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            busy = error.errno in (errno.ENOENT, errno.ENOTEMPTY) or (
                getattr(error, "winerror", None) == _IN_USE
            )
            if not busy or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


def give_name(partial: Path, path: Path) -> None:
    """Give a complete file or folder its name and replace what has that name.

    Raises
    ------
    OSError
        If the system refuses; the old file or folder then still has the name.
    """
    if path.is_dir():
        # A folder cannot be replaced in one step, so the old one is renamed first.
        aside = temporary_name(path, OLD_MARK)
        path.rename(aside)
        try:
            partial.rename(path)
        except OSError:
            aside.rename(path)
            raise
        remove(aside)
    else:
        partial.replace(path)
    sync(path.parent)


def restore(path: Path) -> None:
    """Restore a folder that a process had renamed in `give_name` when it was killed."""
    for aside in set_aside(path):
        if path.exists():
            remove(aside)
        else:
            aside.rename(path)


def _sync(path: Path) -> None:
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        sync(each)

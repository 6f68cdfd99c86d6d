"""An unfinished output volume: fill it region by region, read it back, complete it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.atomic import environment_fault
from cellseg3d.core.channels import ArrayLike
from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.resampling import nearest_on
from cellseg3d.io.lazy import RawVoxels
from cellseg3d.io.output.ownership import check_replaceable
from cellseg3d.io.output.raw_sink import RawSink
from cellseg3d.io.output.region_writer import RegionWriter, give_name, remove, restore
from cellseg3d.io.registry import (
    can_resume,
    create_volume,
    open_volume,
    write_labels,
    write_volume,
)


@dataclass(frozen=True)
class Store:
    """The voxels of one output in a work folder; it can be sent to other processes.

    Zarr and MRC files are filled in place. Other formats cannot be continued after a
    crash, so their voxels lie in a plain file until all of them are written.

    Parameters
    ----------
    path : Path
        The final name of the output.
    work : Path
        The folder of unfinished output, on the same disk.
    grid : Volume
        The volume whose grid the output has.
    dtype : numpy dtype
    chunk : tuple of int
        Shape (z, y, x) of what one task writes, in voxels.
    labels : bool
        Whether the values are class indices.
    final : Volume or None
        The volume whose grid the finished file has, if it is not `grid`.
    """

    path: Path
    work: Path
    grid: Volume
    dtype: np.dtype[Any]
    chunk: Zyx
    labels: bool
    final: Volume | None = None
    _open: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        grid = (self.grid, self.dtype, self.chunk, self.labels, self.final)
        return (Store, (self.path, self.work, *grid))

    @property
    def in_place(self) -> bool:
        """Whether the final format itself is filled region by region."""
        return self.final is None and can_resume(self.path)

    def prepare(self, notes: Mapping[str, Any], *, anew: bool) -> None:
        """Create the unfinished file, or keep the one that exists.

        Parameters
        ----------
        notes : mapping
            The metadata of the file, ready for JSON.
        anew : bool
            Whether to remove what exists first.

        Raises
        ------
        EnvironmentFault
            If the disk is full or cannot be written.
        """
        if anew:
            remove(self._scratch)
            remove(self.done)
        if self.in_place:
            if not self._is_finished:
                self._writer(notes)
        else:
            self._scratch.touch()
            RawSink(self._scratch, 0, self.dtype, self.grid.shape)

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Write the voxels of a region.

        Raises
        ------
        EnvironmentFault
            If the disk is full or cannot be written.
        """
        if self.in_place:
            self._writer({}).write(roi, array)
            return
        try:
            RawSink(self._scratch, 0, self.dtype, self.grid.shape).write(roi, array)
        except OSError as error:
            raise environment_fault(error, self.path) from error

    def read(self, roi: Roi) -> NDArray[Any]:
        """Return the voxels of a region that was written before."""
        found = np.asarray(self._array()[roi.slices])
        return found.astype(self.dtype, copy=False)  # MRC holds bytes in 16 bits.

    def finish(self, notes: Mapping[str, Any]) -> Path:
        """Complete the output in the work folder and return its path there.

        Parameters
        ----------
        notes : mapping
            The metadata of the file, ready for JSON.

        Raises
        ------
        EnvironmentFault
            If the disk is full or cannot be written.
        """
        if self.in_place:
            return self.done if self._is_finished else self._writer(notes).close()
        write = write_labels if self.labels else write_volume
        return write(self.done, self._volume(notes))

    @property
    def done(self) -> Path:
        """The path of the complete output before it is moved to its name."""
        return self.work / self.path.name

    @property
    def _is_finished(self) -> bool:
        """Whether the output was completed in the work folder before."""
        return self.done.exists() and not self._scratch.exists()

    @property
    def _scratch(self) -> Path:
        name = self.path.name
        return self.work / (f"{name}.partial" if self.in_place else f"{name}.raw")

    def _writer(self, notes: Mapping[str, Any]) -> RegionWriter:
        if "writer" not in self._open:
            self._open["writer"] = self._create(notes)
        writer: RegionWriter = self._open["writer"]
        return writer

    def _create(self, notes: Mapping[str, Any]) -> RegionWriter:
        return create_volume(
            self.done,
            self.grid.shape,
            self.dtype,
            spacing=self.grid.spacing,
            affine_mm=self.grid.affine_mm,
            chunk=self.chunk,
            metadata={**notes, "labels": self.labels},
            resume=True,
        )

    def _array(self) -> ArrayLike:
        if self.in_place and self._is_finished:
            return open_volume(self.done).array
        if self.in_place:
            return self._writer({}).array
        return RawVoxels(self._scratch, 0, self.dtype, self.grid.shape).lazy()

    def _volume(self, notes: Mapping[str, Any]) -> Volume:
        grid, array = self.grid, self._array()
        if self.final is not None:
            grid = self.final
            array = nearest_on(array, grid.shape)
        return Volume(array, grid.spacing, "arbitrary", dict(notes), grid.affine_mm)


def put_in_place(done: Path, path: Path) -> None:
    """Move a complete output to its final name and replace what exists there.

    Raises
    ------
    EnvironmentFault
        If the system does not allow it, or a folder of that name holds files that
        cellseg3d did not write.
    """
    try:
        restore(path)
        check_replaceable(path)
        give_name(done, path)
    except OSError as error:
        raise environment_fault(error, path) from error

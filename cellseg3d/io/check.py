"""Read a whole volume once, part by part, and raise an error if it is broken."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import FormatError, NonFiniteError
from cellseg3d.core.ignore import no_object
from cellseg3d.core.memory import available_bytes, check_memory
from cellseg3d.core.roi import Roi, Zyx
from cellseg3d.core.volume import Volume
from cellseg3d.core.words import counted
from cellseg3d.io.damage import reading
from cellseg3d.io.finite import message_of, non_finite
from cellseg3d.io.formats import module_of
from cellseg3d.io.output.writing import slabs
from cellseg3d.io.registry import Opening, open_volume, split_inner

logger = logging.getLogger(__name__)
# Integers with more distinct values than this are taken for an image, not for labels.
LABEL_VALUES = 64
# Real volumes shrink 10 to 100 times when they are compressed, zeros a thousand times.
BOMB_RATIO = 2000


@dataclass(frozen=True)
class Findings:
    """The results of `check_volume`.

    Parameters
    ----------
    volume : Volume
        The volume, which reads its voxels from the file.
    smallest, largest : float or int
        The range of its values.
    label_counts : dict of int to int, or None
        The number of voxels of each value, if the values are integers and at most 64
        distinct ones.
    warnings : tuple of str
        Sentences about what is unusual but can be worked with.
    """

    volume: Volume
    smallest: float
    largest: float
    label_counts: dict[int, int] | None
    warnings: tuple[str, ...]


def check_volume(
    path: Path | str,
    *,
    require_complete: bool = False,
    on_part: Callable[[float], None] | None = None,
    **opening: Unpack[Opening],
) -> Findings:
    """Read every voxel of a volume and return range, label values and warnings.

    Parameters
    ----------
    path, **opening
        As for `registry.open_volume`.
    require_complete : bool
        Whether missing chunks of a Zarr or HDF5 array are an error, not a warning.
    on_part : callable, optional
        A function that is called with the share of voxels read so far, in (0, 1].

    Raises
    ------
    FormatError
        If the file is incomplete, damaged, of another format, or does not hold what
        its header states.
    AxisError
        If it holds more than one volume.
    NonFiniteError
        If a voxel is NaN or infinite.
    EnvironmentFault
        If a part of it needs more memory than is available.
    """
    volume, file, missing = _opened(path, opening)
    if missing and require_complete:
        raise FormatError(f"{file}: {missing[0]}; copy it again")
    warnings = [*volume.provenance.get("warnings", ()), *missing]
    scan = _Scan()
    done, size = 0, Roi.whole(volume.shape).size
    for roi in slabs(volume):
        check_memory(volume.channels * roi.size * volume.dtype.itemsize, str(file))
        with reading(file):
            part = volume.read(roi)
        scan.take(part, roi.start)
        done += roi.size
        if on_part is not None:
            on_part(done / size)
    if scan.first is not None:
        raise NonFiniteError(message_of(str(file), scan.wrong, scan.first))
    if scan.smallest == scan.largest:
        warnings.append(f"every voxel is {scan.smallest}")
    if said := no_object(scan.largest):
        warnings.append(said)
    kept = replace(volume, provenance={**volume.provenance, "warnings": warnings})
    return Findings(kept, scan.smallest, scan.largest, scan.counts, tuple(warnings))


class _Scan:
    """The range, the values and the faults of the parts read so far."""

    def __init__(self) -> None:
        self.smallest: Any = np.inf
        self.largest: Any = -np.inf
        self.counts: dict[int, int] | None = {}
        self.wrong = 0
        self.first: tuple[int, ...] | None = None

    def take(self, part: NDArray[Any], start: Zyx) -> None:
        count, first = non_finite(part)
        self.wrong += count
        if first is not None:
            here = tuple(a + b for a, b in zip(first[-3:], start, strict=True))
            self.first = here if self.first is None else min(self.first, here)
            return
        if part.size:
            self.smallest = min(self.smallest, part.min().item())
            self.largest = max(self.largest, part.max().item())
            self._count(part)

    def _count(self, part: NDArray[Any]) -> None:
        if self.counts is None:
            return
        if part.dtype.kind not in "biu":
            self.counts = None
            return
        values, counts = _values(part)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self.counts[int(value)] = self.counts.get(int(value), 0) + count
        if len(self.counts) > LABEL_VALUES:
            self.counts = None


def _values(part: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the distinct integers of an array and the number of voxels of each."""
    if part.dtype.kind == "u" and part.dtype.itemsize <= 2:
        counts = np.bincount(part.ravel())  # ten times as fast as np.unique
        values = np.flatnonzero(counts)
        return values, counts[values]
    values, counts = np.unique(part, return_counts=True)
    return values, counts


def open_input(path: Path | str, **opening: Unpack[Opening]) -> Volume:
    """Open a volume as the input of some work, and log what is unusual about it.

    The log also says where the caller contradicts the file.

    Parameters
    ----------
    path, **opening
        As for `registry.open_volume`.

    Raises
    ------
    FormatError
        If its header states far more voxels than a file of its size can hold.
    """
    volume, _, missing = _opened(path, opening)
    notes = volume.provenance
    for sentence in (*notes.get("warnings", ()), *missing, *notes.get("told", ())):
        logger.warning("%s: %s", path, sentence)
    return volume


def _opened(path: Path | str, opening: Opening) -> tuple[Volume, Path, list[str]]:
    """Return a volume, its file, and a sentence about missing chunks, if any are."""
    volume = open_volume(path, **opening)
    file, _ = split_inner(path, opening.get("inner"))
    _refuse_bomb(file, volume)
    return volume, file, _missing_chunks(file, volume)


def _refuse_bomb(path: Path, volume: Volume) -> None:
    """Raise an error if a small file states more voxels than fit into memory."""
    needed = volume.nbytes
    free = available_bytes()
    if needed <= free:
        return
    files = path.rglob("*") if path.is_dir() else [path]
    stored = sum(each.stat().st_size for each in files if each.is_file())
    if needed > BOMB_RATIO * max(stored, 1):
        raise FormatError(
            f"{path}: its header states {needed / 2**30:.1f} GiB of voxels, but the "
            f"file has {stored / 2**20:.2f} MiB; no real volume can be compressed so "
            f"much (and {free / 2**30:.1f} GiB of memory are available); check where "
            "the file comes from"
        )


def _missing_chunks(path: Path, volume: Volume) -> list[str]:
    """Return a sentence if chunks of a Zarr or HDF5 array are missing, else nothing."""
    kind = str(volume.provenance.get("format", ""))
    if not kind.startswith(("Zarr", "HDF5")):
        return []
    module = module_of("zarr" if kind.startswith("Zarr") else "hdf5")
    inner = str(volume.provenance["inner"])
    absent, whole, fill, outside = module.missing_chunks(path, inner)
    value = "zeros" if fill == 0 else f"{fill:g}"
    said = [f"{absent} of {whole} chunks are missing and read as {value}"] * bool(
        absent
    )
    if outside:
        said.append(
            f"the file also holds {counted(outside, 'chunk')} outside of the shape "
            "that its header states"
        )
    return said

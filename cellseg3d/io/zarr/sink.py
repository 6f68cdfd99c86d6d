"""Write OME-Zarr; several processes may write at once, and a pyramid is added last."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numcodecs import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from cellseg3d.core.errors import FormatError
from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.io.layout import Layout, Sink, check_unfinished
from cellseg3d.io.zarr.chunks import EMPTY, chunk_counts, chunk_places

CHUNK = 64
SHARD = 256
# The pyramid ends with the first level whose longest side is at most this.
SMALLEST = 128
_KINDS = {"t": "time", "c": "channel"}


def create(path: Path, layout: Layout) -> Sink:
    """Make an OME-Zarr image with an empty level of full size, and return its writer.

    Several processes may write at once if each writes whole blocks of `ZarrSink.unit`.
    """
    group = zarr.open_group(path, mode="w", zarr_format=_format(layout))
    _add_level(group, 0, layout.shape, layout)
    group.attrs.update({**_attributes(layout, 1), "cellseg3d": dict(layout.all_notes)})
    return ZarrSink(path, layout)


def resume(path: Path, layout: Layout) -> Sink:
    """Return a writer that goes on with an unfinished image.

    Raises
    ------
    FormatError
        If the image has another shape, dtype or shard.
    """
    try:
        array = zarr.open_array(path, path="0", mode="r")
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise FormatError(f"{path}: is not an unfinished volume; remove it") from error
    shard = array.shards or array.chunks
    found = {"shape": array.shape, "dtype": array.dtype, "shard": shard}
    wanted = {"shape": layout.lengths, "dtype": _stored(layout)}
    check_unfinished(path, found, {**wanted, "shard": unit_of(layout)[1]})
    return ZarrSink(path, layout)


@dataclass(frozen=True)
class ZarrSink:
    """A writer of an OME-Zarr image; several processes may write, and one closes it.

    Parameters
    ----------
    path : Path
        The folder of the image.
    layout : Layout
        Shape, dtype and metadata of the volume.
    """

    path: Path
    layout: Layout
    _arrays: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (ZarrSink, (self.path, self.layout))

    @property
    def unit(self) -> Zyx:
        """Shape of a shard (z, y, x), which only one process writes at a time."""
        return unit_of(self.layout)[1]

    def write(self, roi: Roi, array: NDArray[Any]) -> None:
        """Write the voxels (z, y, x) of the region `roi`."""
        self._level(0)[self.layout.place(roi)] = array

    def array(self) -> Any:  # noqa: ANN401
        """Return the voxels written so far as a lazy array; the others are 0."""
        return self._level(0)

    def close(self) -> None:
        """Write the smaller levels of the pyramid and list them in the metadata."""
        shape, level = self.layout.shape, 0
        group = zarr.open_group(self.path, mode="r+")
        while max(shape) > SMALLEST:
            shape = zyx([-(-length // 2) for length in shape])
            level += 1
            _add_level(group, level, shape, self.layout)
            finer = self._level(level - 1)
            leads = [()] if finer.ndim == 3 else [(n,) for n in range(finer.shape[0])]
            for roi, lead in itertools.product(blocks(shape, self.unit), leads):
                source = Roi(
                    zyx([2 * each for each in roi.start]),
                    zyx([2 * each for each in roi.stop]),
                )
                part = finer[(*lead, *source.clip(finer.shape[-3:]).slices)]
                self._level(level)[(*lead, *roi.slices)] = _halve(
                    np.asarray(part), labels=self.layout.labels
                )
        for each in range(level + 1):
            self._note_empty(each)
        group.attrs.update(_attributes(self.layout, level + 1))

    def _note_empty(self, level: int) -> None:
        """List the shards of zeros of a level, which the library leaves out.

        A shard that is missing and not in the list is then known to be lost.
        """
        array = self._level(level)
        there = set(chunk_places(self.path / str(level), array.ndim))
        units = array.shards or array.chunks
        empty = [
            list(place)
            for place in np.ndindex(*chunk_counts(array.shape, units))
            if place not in there
        ]
        if empty:
            array.attrs[EMPTY] = empty

    def _level(self, level: int) -> Any:  # noqa: ANN401
        if level not in self._arrays:
            # Chunks of zeros are written as well, so that a missing chunk is a loss.
            self._arrays[level] = zarr.open_array(
                self.path,
                path=str(level),
                mode="r+",
                config={"write_empty_chunks": True},
            )
        return self._arrays[level]


def unit_of(layout: Layout) -> tuple[Zyx, Zyx]:
    """Return the shapes (z, y, x) of a chunk and of a shard for a layout.

    The layout's chunk becomes the shard. It is divided evenly into the largest chunks
    of at most 64 voxels a side. OME-Zarr 0.4 has no shards: both shapes are equal.
    """
    if layout.chunk is not None and _format(layout) == 2:
        return layout.chunk, layout.chunk
    if layout.chunk is None:
        chunk = zyx([min(CHUNK, length) for length in layout.shape])
        shard = zyx(
            [
                min(max(1, SHARD // side), -(-length // side)) * side
                for side, length in zip(chunk, layout.shape, strict=True)
            ]
        )
        return chunk, chunk if _format(layout) == 2 else shard
    shard = layout.chunk
    return zyx([_part(side) for side in shard]), shard


def _part(side: int) -> int:
    return max(part for part in range(1, min(side, CHUNK) + 1) if side % part == 0)


def _add_level(group: Any, level: int, shape: Zyx, layout: Layout) -> None:  # noqa: ANN401
    lead = (1,) * (len(layout.axes) - 3)
    chunk, shard = ((*lead, *each) for each in unit_of(layout))
    options: dict[str, Any] = {
        "chunks": chunk,
        "shards": shard,
        # The checksum turns a flipped bit into an error, not into a wrong voxel.
        "compressors": ZstdCodec(level=3, checksum=True),
        "dimension_names": list(layout.axes.lower()),
    }
    if _format(layout) == 2:
        options = {
            "chunks": chunk,
            "compressors": Zstd(level=3, checksum=True),
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        }
    group.create_array(
        str(level),
        shape=(*layout.lengths[:-3], *shape),
        dtype=_stored(layout),
        fill_value=0,
        overwrite=True,
        **options,
    )


def _format(layout: Layout) -> Literal[2, 3]:
    return 2 if layout.ome_zarr == "0.4" else 3


def _stored(layout: Layout) -> np.dtype[Any]:
    return np.dtype("u1") if layout.dtype.kind == "b" else layout.dtype


def _halve(array: NDArray[Any], *, labels: bool) -> NDArray[Any]:
    """Return an array of half the size: every second label, or means of 2 x 2 x 2."""
    if labels:
        return array[::2, ::2, ::2]
    pad = [(0, length % 2) for length in array.shape]
    z, y, x = (-(-length // 2) for length in array.shape)
    even = np.pad(array, pad, mode="edge").reshape(z, 2, y, 2, x, 2)
    mean = even.mean(axis=(1, 3, 5), dtype=np.float64)
    if array.dtype.kind in "iu":
        mean = np.rint(mean)
    halved: NDArray[Any] = mean.astype(array.dtype)
    return halved


def _attributes(layout: Layout, levels: int) -> dict[str, Any]:
    """Return the metadata of the image in the layout's version of OME-Zarr."""
    unit = {} if layout.spacing is None else {"unit": "micrometer"}
    edges = (1.0, 1.0, 1.0) if layout.spacing is None else layout.spacing.zyx
    datasets = []
    ones = [1.0] * (len(layout.axes) - 3)
    zeros = [0.0] * len(ones)
    for level in range(levels):
        factor = 2**level
        # A label keeps the place of its voxel; a mean lies between its voxels.
        shift = 0.0 if layout.labels else (factor - 1) / 2
        moves: list[dict[str, Any]] = [
            {"type": "scale", "scale": [*ones, *(edge * factor for edge in edges)]}
        ]
        if shift:
            moves.append(
                {
                    "type": "translation",
                    "translation": [*zeros, *(edge * shift for edge in edges)],
                }
            )
        datasets.append({"path": str(level), "coordinateTransformations": moves})
    image = {
        "name": "label" if layout.labels else "image",
        "axes": [
            *(
                {"name": each, "type": _KINDS[each]}
                for each in layout.axes[:-3].lower()
            ),
            *({"name": letter, "type": "space", **unit} for letter in "zyx"),
        ],
        "datasets": datasets,
        "type": "nearest" if layout.labels else "mean",
    }
    found: dict[str, Any] = {"multiscales": [image]}
    if layout.labels:
        found["image-label"] = {"version": layout.ome_zarr}
    if layout.ome_zarr == "0.4":
        image["version"] = "0.4"
        return found
    return {"ome": {"version": "0.5", **found}}

"""Find objects in class labels or probabilities; the ids do not depend on the blocks.

1. Each block is divided into small regions, from a neighbourhood of limited size.
2. Regions of neighbouring blocks that share voxels are joined.
3. Rules on the graph of all regions decide which regions form one object.
4. A second pass over the blocks writes the ids.

Objects are numbered 1, 2, ... by their first voxel in C order.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.extras import missing_extra
from cellseg3d.core.grid import blocks
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.io.layout import OBJECT_IDS
from cellseg3d.io.output.region_writer import refuse_newcomer
from cellseg3d.objects.merge import objects_of
from cellseg3d.objects.options import LengthScale, ObjectOptions
from cellseg3d.objects.pairs import IntArray
from cellseg3d.objects.regions import find_regions, relabel
from cellseg3d.objects.source import (
    ObjectSource,
    Probable,
    open_source,
)
from cellseg3d.objects.stitch import RegionGraph, stitch

BLOCK = 192
# The regions of volumes up to this many voxels stay in memory for the second pass.
KEPT_VOXELS = 1 << 26
log = logging.getLogger(__name__)
BlockMap = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class LabelledObjects:
    """The objects of a volume, with the volume and the class of each.

    Parameters
    ----------
    volume : Volume
        Object ids, shape (Z, Y, X), of the smallest unsigned dtype that holds them; 0
        is background. They are in memory, or read on demand if a file was written.
    volumes : ndarray of float64, shape (n,)
        Volumes of the objects 1, 2, ..., in `unit` cubed.
    classes : ndarray of int64, shape (n,)
        Classes of the objects 1, 2, ...
    unit : str
        ``"um"``, or ``"voxels"`` when the spacing is unknown.
    options : ObjectOptions
        The options that the objects were found with.
    specks : int
        Number of objects left out because they are smaller than
        ``options.min_volume_um3``.
    """

    volume: Volume
    volumes: NDArray[np.float64]
    classes: IntArray
    unit: str
    options: ObjectOptions
    specks: int = 0

    @property
    def count(self) -> int:
        """The number of objects."""
        return len(self.volumes)


@dataclass(frozen=True)
class _Ids:
    """The final id of each region of the whole volume; 0 for regions left out."""

    of_region: IntArray
    sizes: IntArray
    kinds: IntArray
    specks: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return smallest_unsigned(len(self.sizes))


def label_objects(
    source: Probable,
    spacing: Spacing | None = None,
    options: ObjectOptions | str = "watershed",
    *,
    probs: bool | None = None,
    out: Path | None = None,
    block: Zyx | int = BLOCK,
    map_blocks: BlockMap = map,
) -> LabelledObjects:
    """Return the objects in class labels or probabilities.

    The result does not depend on `block` or `map_blocks`.

    Parameters
    ----------
    source : Volume, array or sequence of Volume
        Class indices (integers, 0 background), shape (Z, Y, X); or probabilities
        (floats in [0, 1]) of the foreground, shape (Z, Y, X), or of K classes with
        background first, shape (K, Z, Y, X) or K volumes. Method ``"border-core"``
        needs background, core and border in this order. Method ``"affinity"`` needs
        the links of each voxel to its lower neighbours along z, y and x, or the eight
        classes `cellseg3d.datasets.targets.LINKS`.
    spacing : Spacing, optional
        Voxel edges; the volume's own when None. If they are unknown, every length is
        in voxels, and the log and the result say so.
    options : ObjectOptions or str
        The method and its parameters, or only the name of the method.
    probs : bool, optional
        Whether voxels are probabilities. When None, floats are and integers are not.
    out : Path, optional
        File to write the ids to; they are then read on demand.
    block : int or tuple of int
        Shape of a block along (z, y, x), in voxels.
    map_blocks : callable
        A function like the builtin ``map`` that keeps the order, such as that of a pool
        of processes or `cellseg3d.objects.dask_map.dask_map`.

    Raises
    ------
    AxisError, LabelError, NonFiniteError
        If the voxels are not class indices or probabilities of the expected shape.
    EnvironmentFault
        If the extra ``objects`` is not installed, or if another process wrote the file
        `out` since the call began; that file is kept.

    Examples
    --------
    Two balls that touch are two objects:

    >>> import numpy as np
    >>> import cellseg3d
    >>> z, y, x = np.indices((16, 16, 28))
    >>> balls = [(z - 8) ** 2 + (y - 8) ** 2 + (x - at) ** 2 <= 49 for at in (8, 20)]
    >>> spacing = cellseg3d.Spacing(0.1, 0.1, 0.1)
    >>> found = cellseg3d.label_objects((balls[0] | balls[1]).astype(np.uint8), spacing)
    >>> found.count, found.unit, found.volume.shape
    (2, 'um', (16, 16, 28))
    """
    _require_objects()
    replacing = out is not None and out.exists()
    if isinstance(options, str):
        options = ObjectOptions(method=options)
    opened = open_source(source, spacing, options, probs=probs)
    scale = opened.scale
    if not scale.known:
        log.info("%s: spacing is unknown, so every length is in voxels", opened.name)
    size = zyx(block)
    cores = list(blocks(opened.shape, size))
    keep = int(np.prod(opened.shape)) <= KEPT_VOXELS
    graph = stitch(map_blocks(partial(find_regions, opened, keep=keep), cores), size)
    ids = _number(graph, objects_of(graph, options, scale), options, scale)
    labelled = _labelled(opened, cores, graph, map_blocks)
    if out is not None and not replacing:
        refuse_newcomer(out)
    volume = _write(_template(source, opened), labelled, graph, ids, out)
    volumes = np.asarray(ids.sizes * scale.voxel_volume, np.float64)
    return LabelledObjects(volume, volumes, ids.kinds, scale.unit, options, ids.specks)


def smallest_unsigned(largest: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds a number."""
    return np.min_scalar_type(max(0, largest))


def _number(
    graph: RegionGraph, owner: IntArray, options: ObjectOptions, scale: LengthScale
) -> _Ids:
    """Return ids, in the order of first voxels, for objects that are large enough."""
    count = len(graph.size)
    sizes = np.zeros(count, np.int64)
    np.add.at(sizes, owner, graph.size)
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, owner, graph.first)
    volumes = sizes * scale.voxel_volume
    # Rounding of the bound must not remove an object of exactly that size.
    enough = volumes >= options.min_volume_um3 * (1 - 1e-9)
    kept = np.flatnonzero((sizes > 0) & enough)
    kept = kept[np.argsort(first[kept])]
    of_owner = np.zeros(count, np.int64)
    of_owner[kept] = np.arange(1, len(kept) + 1)
    specks = int(np.count_nonzero((sizes > 0) & ~enough))
    return _Ids(of_owner[owner], sizes[kept], graph.kind[kept], specks)


def _labelled(
    source: ObjectSource, cores: list[Roi], graph: RegionGraph, map_blocks: BlockMap
) -> Iterator[tuple[Roi, NDArray[np.uint32], int]]:
    """Yield each block, its regions, and the number of regions in earlier blocks."""
    if all(labels is not None for labels in graph.labels):
        again: Iterable[Any] = graph.labels
    else:
        again = map_blocks(partial(relabel, source), cores)
    yield from zip(cores, again, graph.offsets, strict=True)


def _write(
    template: Volume,
    labelled: Iterator[tuple[Roi, NDArray[np.uint32], int]],
    graph: RegionGraph,
    ids: _Ids,
    out: Path | None,
) -> Volume:
    if out is None:
        array = np.zeros(template.shape, ids.dtype)
        for roi, labels, offset in labelled:
            array[roi.slices] = _final(labels, offset, graph, ids)
        marked = {**template.provenance, OBJECT_IDS: True}
        return replace(template, array=array, provenance=marked)
    from cellseg3d.io.registry import create_volume, open_volume  # noqa: PLC0415

    with create_volume(
        out,
        template.shape,
        ids.dtype,
        spacing=template.spacing,
        affine_mm=template.affine_mm,
        metadata={"labels": True, OBJECT_IDS: True},
    ) as writer:
        for roi, labels, offset in labelled:
            writer.write(roi, _final(labels, offset, graph, ids))
    return open_volume(out)


def _final(
    labels: NDArray[np.uint32], offset: int, graph: RegionGraph, ids: _Ids
) -> NDArray[Any]:
    """Return the ids of a block's voxels."""
    count = int(labels.max(initial=0))
    table = np.zeros(count + 1, ids.dtype)
    table[1:] = ids.of_region[graph.of[offset : offset + count]]
    return table[labels]


def _template(source: Probable, opened: ObjectSource) -> Volume:
    """Return a volume with shape and spacing of the objects, without voxel data."""
    grid = np.broadcast_to(np.uint8(0), opened.shape)
    first = source[0] if isinstance(source, list | tuple) else source
    if not isinstance(first, Volume):
        return Volume(grid, opened.spacing)
    kept = replace(first, array=grid, spacing=opened.spacing)
    return replace(kept, intensity_unit="arbitrary")


def _require_objects() -> None:
    try:
        import cc3d  # noqa: F401, PLC0415
        import edt  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise missing_extra(f"objects need {error.name}", "objects") from error

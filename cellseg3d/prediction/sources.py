"""A source of class probabilities: a network on its lattice, along one axis."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cellseg3d.acceleration.prepare import Engine
from cellseg3d.core.axes import axis_index
from cellseg3d.core.grid import blocks
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi
from cellseg3d.core.spacing import Spacing
from cellseg3d.prediction.field import Field
from cellseg3d.prediction.lattice import (
    Lattice,
    WindowPlan,
    batch_of,
    lattice_of,
)
from cellseg3d.prediction.slices import sweep_slices
from cellseg3d.prediction.views import View, ViewField, symmetric_views
from cellseg3d.prediction.windows import blend_windows, sweep_windows

# Features that a window which is streamed may hold, about: over the features of a
# voxel, the pixels of its planes. In bfloat16 they take some 200 MiB.
STREAMED = 2**20
# The score of background against all else where nothing is looked at.
CERTAIN = 30.0


@dataclass(frozen=True)
class Source:
    """One stream of logits over a volume.

    Parameters
    ----------
    name : str
        For people, such as ``"cell_tomo_unet25d along z"``.
    field : Field
        What its network sees of the volume; through `view` when there is one.
    engine : Engine
    lattice : Lattice
        On the field as it is seen.
    classes : int
    batch : int
        3D windows, or slices, that run together.
    blended : bool
        Whether windows overlap, for networks that see the whole window; slices do
        within their planes.
    empty_below : float or None
        Where nothing in a region reaches this scaled intensity, it is background
        without being looked at.
    view : View or None
    """

    name: str
    field: Field
    engine: Engine
    lattice: Lattice
    classes: int
    batch: int = 1
    blended: bool = False
    empty_below: float | None = None
    view: View | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume (Z, Y, X)."""
        return self.field.shape

    @property
    def streamed(self) -> bool:
        """Whether its windows run some planes at a time."""
        return self.engine.stream is not None and not self.blended

    def logits(self, chunk: Roi) -> Iterator[tuple[Roi, Tensor]]:
        """Yield (roi, logits of shape (K, *roi.shape)) that tile a chunk.

        Each voxel of the chunk comes exactly once; a roi never leaves the chunk.
        """
        view = self.view
        if view is None:
            yield from self._seen(self.field, chunk)
            return
        field = ViewField(self.field, view)
        for roi, logits in self._seen(field, view.seen(chunk, self.shape)):
            yield view.origin(roi, self.shape), view.turn_back(logits)

    def _seen(self, field: Field, chunk: Roi) -> Iterator[tuple[Roi, Tensor]]:
        if self.empty_below is None:
            yield from self._swept(field, chunk)
            return
        # Cores are looked at one by one, on the lattice, so that what is left out
        # does not depend on the chunk.
        for tile in self.lattice.windows(chunk):
            inside = tile.write.intersect(chunk)
            if float(field.read(tile.write).max()) >= self.empty_below:
                yield from self._swept(field, inside)
                continue
            empty = torch.zeros((self.classes, *inside.shape))
            empty[0] = CERTAIN
            yield inside, empty

    def _swept(self, field: Field, chunk: Roi) -> Iterator[tuple[Roi, Tensor]]:
        lattice, engine = self.lattice, self.engine
        if self.blended and lattice.axis is None:
            parts = blend_windows(field, engine, lattice, chunk, self.batch)
        elif self.blended and lattice.tiled:
            runs = _runs(chunk, axis_index(lattice.axis or "z"), lattice)
            blends = (
                blend_windows(field, engine, lattice, run, self.batch) for run in runs
            )
            parts = itertools.chain.from_iterable(blends)
        elif lattice.axis is not None:
            parts = sweep_slices(field, engine, lattice, chunk, self.batch)
        else:
            parts = sweep_windows(field, engine, lattice, chunk, self.batch)
        for roi, logits in parts:
            inside = roi.intersect(chunk)
            yield inside, logits[(slice(None), *inside.within(roi).slices)]


def _runs(chunk: Roi, across: int, lattice: Lattice) -> Iterator[Roi]:
    """Yield runs of as many slices as a window of the lattice holds."""
    shape = list(chunk.shape)
    shape[across] = lattice.core[across]
    for run in blocks(chunk.shape, shape):
        yield run.shift(chunk.start)


@dataclass(frozen=True)
class NetworkUse:
    """A prepared network and how it is used.

    Parameters
    ----------
    name : str
    engine : Engine
    spec : InputSpec
    plan : WindowPlan
    stride : tuple of int
        The net's total stride, one number a spatial dimension.
    classes : int
    sees_window : bool
        Whether its normalisation sees the whole window.
    """

    name: str
    engine: Engine
    spec: InputSpec
    plan: WindowPlan
    stride: tuple[int, ...]
    classes: int
    sees_window: bool = False

    @property
    def streamed(self) -> bool:
        """Whether windows run some planes at a time."""
        return self.engine.stream is not None and not self.sees_window

    def sources(self, field: Field, *, skip_empty: bool = False) -> list[Source]:
        """Return one source for 3D, one an axis for 2D and 2.5D."""
        deep = self.spec.spatial_dims == 3
        axes: Sequence[str | None] = [None] if deep else list(self.plan.axes)
        found = []
        for axis in axes:
            lattice = self._lattice(field.shape, axis, skip_empty=skip_empty)
            source = Source(
                self.name if axis is None else f"{self.name} along {axis}",
                field,
                self.engine,
                lattice,
                self.classes,
                1 if self.streamed else batch_of(lattice, self.plan),
                self.sees_window,
                self.plan.empty_below if skip_empty else None,
            )
            found.append(source)
        return found

    def views(self, source: Source, spacing: Spacing | None) -> list[Source]:
        """Return a source once for each symmetric view of its volume."""
        found = []
        for view in symmetric_views(spacing, source.lattice.axis):
            shape = view.shape(source.shape)
            axis = view.axis(source.lattice.axis)
            skips = source.empty_below is not None
            lattice = self._lattice(shape, axis, skip_empty=skips)
            found.append(replace(source, lattice=lattice, view=view))
        return found

    def _lattice(
        self, shape: Sequence[int], axis: str | None, *, skip_empty: bool
    ) -> Lattice:
        """Return the lattice; what may be skipped is cut small, to be found empty."""
        features = self.engine.features
        pixels = None
        if features is not None and self.streamed and not skip_empty:
            pixels = int(STREAMED / features)
        return lattice_of(shape, self.spec, self.stride, self.plan, axis, pixels)

"""A source of class probabilities: a network on its lattice, along one axis."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cellseg3d.core.axes import axis_index
from cellseg3d.core.grid import blocks
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.models.prepared import PreparedNetwork
from cellseg3d.prediction.field import Field
from cellseg3d.prediction.lattice import (
    Lattice,
    WindowSettings,
    lattice_of,
    planes_of,
)
from cellseg3d.prediction.views import View, ViewField, symmetric_views
from cellseg3d.prediction.windows import blend_windows, sweep_windows

# Features that a window which runs some planes at a time may hold, about: over the
# features of a voxel, the pixels of its planes. In bfloat16 they take some 200 MiB.
STREAMED = 2**20
# Bytes of a GPU's memory that a window may take, where the user names no limit.
GPU_BYTES = 2**32
# The score of background against all else where nothing is looked at.
CERTAIN = 30.0


@dataclass(frozen=True)
class NetworkUse:
    """A prepared network and how it is used.

    Parameters
    ----------
    name : str
    network : PreparedNetwork
    spec : InputSpec
    window : WindowSettings
    stride : tuple of int
        The net's total stride, one number a spatial dimension.
    classes : int
    sees_window : bool
        Whether its normalisation sees the whole window; then windows overlap and are
        blended, slices within their planes.
    skip_empty : bool
        Whether windows that hold nothing are left out, by the window's threshold.
    gpu_bytes : int
        Bytes of a GPU's memory that a window may take.
    """

    name: str
    network: PreparedNetwork
    spec: InputSpec
    window: WindowSettings
    stride: tuple[int, ...]
    classes: int
    sees_window: bool = False
    skip_empty: bool = False
    gpu_bytes: int = GPU_BYTES

    @property
    def gpu_voxels(self) -> int | None:
        """The voxels of a window that fills a GPU's memory; None on other devices.

        Of a 2D or 2.5D network, the pixels of all slices that run together.
        """
        if self.network.hardware.device.type != "cuda":
            return None
        side = math.lcm(*self.stride) * 4
        deep = self.spec.spatial_dims == 3
        window = zyx([side if deep else 1, side, side])
        held = self.network.held_bytes(window, 1)
        return int(self.gpu_bytes / held * math.prod(window))

    def sources(self, field: Field) -> list["Source"]:
        """Return one source for 3D, one an axis for 2D and 2.5D."""
        deep = self.spec.spatial_dims == 3
        axes: Sequence[str | None] = [None] if deep else list(self.window.axes)
        return [
            Source(
                self.name if axis is None else f"{self.name} along {axis}",
                field,
                self,
                self.lattice(field.shape, axis),
            )
            for axis in axes
        ]

    def lattice(self, shape: Sequence[int], axis: str | None) -> Lattice:
        """Return the lattice; what may be skipped is cut small, to be found empty."""
        features = self.network.features
        pixels = None
        if features is not None and not self.skip_empty:
            pixels = int(STREAMED / features)
        voxels = None if self.skip_empty else self.gpu_voxels
        return lattice_of(
            shape, self.spec, self.stride, self.window, axis, pixels, voxels
        )


@dataclass(frozen=True)
class Source:
    """One stream of logits over a volume.

    Parameters
    ----------
    name : str
        For people, such as ``"cell_tomo_unet25d along z"``.
    field : Field
        What its network sees of the volume; through `view` when there is one.
    use : NetworkUse
    lattice : Lattice
        On the field as it is seen.
    view : View or None
    most_planes : int or None
        A limit to the planes that are computed together, where memory is short.
    """

    name: str
    field: Field
    use: NetworkUse
    lattice: Lattice
    view: View | None = None
    most_planes: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume (Z, Y, X)."""
        return self.field.shape

    @property
    def network(self) -> PreparedNetwork:
        """The network that answers."""
        return self.use.network

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.use.classes

    @property
    def planes(self) -> int:
        """How many planes of a window's answer are computed together."""
        usual = planes_of(self.lattice, self.use.window, self.use.gpu_voxels)
        return usual if self.most_planes is None else min(usual, self.most_planes)

    @property
    def runs_in_planes(self) -> bool:
        """Whether a 3D window may be long, because it runs some planes at a time."""
        return self.network.features is not None

    def views(self, spacing: Spacing | None) -> list["Source"]:
        """Return the source once for each symmetric view of its volume."""
        found = []
        for view in symmetric_views(spacing, self.lattice.axis):
            shape, axis = view.shape(self.shape), view.axis(self.lattice.axis)
            lattice = self.use.lattice(shape, axis)
            found.append(replace(self, lattice=lattice, view=view))
        return found

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
        least = self.use.window.empty_below
        if least is None or not self.use.skip_empty:
            yield from self._swept(field, chunk)
            return
        # Cores are looked at one by one, on the lattice, so that what is left out
        # does not depend on the chunk.
        for tile in self.lattice.windows(chunk):
            inside = tile.write.intersect(chunk)
            if float(field.read(tile.write).max()) >= least:
                yield from self._swept(field, inside)
                continue
            home = self.network.hardware.home
            empty = torch.zeros((self.classes, *inside.shape), device=home)
            empty[0] = CERTAIN
            yield inside, empty

    def _swept(self, field: Field, chunk: Roi) -> Iterator[tuple[Roi, Tensor]]:
        lattice, network = self.lattice, self.network
        blends = self.use.sees_window and (lattice.axis is None or lattice.tiled)
        sweep = blend_windows if blends else sweep_windows
        for part in _runs(chunk, lattice) if blends else [chunk]:
            for roi, logits in sweep(field, network, lattice, part, self.planes):
                inside = roi.intersect(part)
                yield inside, logits[(slice(None), *inside.within(roi).slices)]


def _runs(chunk: Roi, lattice: Lattice) -> Iterator[Roi]:
    """Yield the chunk in 3D; else runs of as many slices as a window holds."""
    shape = list(chunk.shape)
    if lattice.axis is not None:
        across = axis_index(lattice.axis)
        shape[across] = lattice.core[across]
    for run in blocks(chunk.shape, shape):
        yield run.shift(chunk.start)

"""A source of logits: one network on its windows, along one axis or in 3D."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cellseg3d.core.axes import AXES, axis_index
from cellseg3d.core.grid import blocks
from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.models.prepared import PreparedNetwork
from cellseg3d.prediction.field import Field, MirroredField
from cellseg3d.prediction.lattice import (
    Lattice,
    WindowSettings,
    lattice_of,
    planes_of,
)
from cellseg3d.prediction.views import View, ViewField, symmetric_views
from cellseg3d.prediction.windows import blend_windows, sweep_windows

# Bytes that a window may take, if the user sets no limit: on a GPU, and in the memory
# of the computer, where reading, sums and labels take about 128 MiB more.
GPU_BYTES = 2**32
RAM_BYTES = 9 * 2**26
# How many planes of a 3D window may be computed together, and what one step costs
# beside its planes, in planes. More planes take more memory and so narrower windows.
# Measured with U-Nets of 16 to 256 channels on processors with 256 and 512 bit vectors.
STREAMED_PLANES = (32, 16, 8)
STEP_COST = 2.4
# The logit of background in windows that are left out as empty.
CERTAIN = 30.0


@dataclass(frozen=True)
class NetworkUse:
    """A prepared network with the settings by which it is used.

    Parameters
    ----------
    name : str
    network : PreparedNetwork
    spec : InputSpec
    window : WindowSettings
    stride : tuple of int
        The network's total stride, one number for each spatial dimension.
    classes : int
        The number of classes.
    sees_window : bool
        Whether its normalisation depends on the whole window. Windows then overlap and
        are blended; those of slices overlap within the slices.
    skip_empty : bool
        Whether windows whose intensities lie below ``window.empty_below`` are left out.
    window_bytes : int
        Bytes that a window may take, on a GPU of the GPU's memory.
    adapted : bool
        Whether the network's normalisation was measured on the volume.
    """

    name: str
    network: PreparedNetwork
    spec: InputSpec
    window: WindowSettings
    stride: tuple[int, ...]
    classes: int
    sees_window: bool = False
    skip_empty: bool = False
    window_bytes: int = GPU_BYTES
    adapted: bool = False

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
        return int(self.window_bytes / held * math.prod(window))

    def sources(self, field: Field) -> list["Source"]:
        """Return one source in 3D, and one for each axis in 2D and 2.5D."""
        deep = self.spec.spatial_dims == 3
        axes: Sequence[str | None] = [None] if deep else list(self.window.axes)
        return [
            Source(
                self.name if axis is None else f"{self.name} along {axis}",
                field,
                self,
                *self.lattice(self.spec.seen_shape(field.shape, axis), axis),
            )
            for axis in axes
        ]

    def lattice(self, shape: Sequence[int], axis: str | None) -> tuple[Lattice, int]:
        """Return the lattice on a volume, and the planes that are computed together.

        Windows that may be skipped are small, because small ones are more often empty.
        """
        if self.network.streams and not self.skip_empty:
            return self._streamed(shape)
        voxels = None if self.skip_empty else self.gpu_voxels
        lattice = lattice_of(
            shape, self.spec, self.stride, self.window, axis, voxels=voxels
        )
        return lattice, planes_of(lattice, self.window, self.gpu_voxels)

    def _streamed(self, shape: Sequence[int]) -> tuple[Lattice, int]:
        """Return the windows and planes that take the least time in the memory."""
        found: list[tuple[float, Lattice, int]] = []
        for planes in STREAMED_PLANES:
            each = self.network.held_bytes(zyx([1, 1, 1]), planes)
            lattice = lattice_of(
                shape,
                self.spec,
                self.stride,
                self.window,
                pixels=int(self.window_bytes / each),
            )
            area = math.prod(lattice.window[1:])
            cost = (1 + STEP_COST / planes) * area / math.prod(lattice.core[1:])
            fits = area * each <= self.window_bytes
            if fits or planes == STREAMED_PLANES[-1]:
                found.append((cost if fits else math.inf, lattice, planes))
            if fits and (not lattice.tiled or self.window.core is not None):
                break
        _, lattice, planes = min(found, key=lambda each: each[0])
        return lattice, planes


@dataclass(frozen=True)
class Source:
    """One network that gives logits for each voxel of a volume.

    Parameters
    ----------
    name : str
        The name in messages, such as ``"cell_tomo_unet25d along z"``.
    field : Field
        The scaled intensities of the volume.
    use : NetworkUse
    lattice : Lattice
        The windows, on the field as it is mirrored and as `view` shows it.
    planes : int
        How many planes of a window's answer are computed together.
    view : View or None
        How the volume is flipped and turned before the network sees it.
    """

    name: str
    field: Field
    use: NetworkUse
    lattice: Lattice
    planes: int
    view: View | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume (Z, Y, X)."""
        return self.field.shape

    @property
    def seen(self) -> MirroredField:
        """The field with slices that are as large as those of the training."""
        axis = self.lattice.axis
        if axis is not None and self.view is not None:
            axis = AXES[self.view.order[axis_index(axis)]]
        return MirroredField(self.field, self.use.spec.seen_shape(self.shape, axis))

    @property
    def network(self) -> PreparedNetwork:
        """The prepared network."""
        return self.use.network

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.use.classes

    @property
    def runs_in_planes(self) -> bool:
        """Whether the network runs a window some planes at a time.

        A 3D window may then be long without taking more memory.
        """
        return self.network.streams

    def views(self, spacing: Spacing | None) -> list["Source"]:
        """Return one source for each flipped or turned view of the volume."""
        found = []
        for view in symmetric_views(spacing, self.lattice.axis):
            shape, axis = view.shape(self.seen.shape), view.axis(self.lattice.axis)
            lattice, planes = self.use.lattice(shape, axis)
            found.append(replace(self, lattice=lattice, planes=planes, view=view))
        return found

    def logits(self, chunk: Roi) -> Iterator[tuple[Roi, Tensor]]:
        """Yield (roi, logits of shape (K, *roi.shape)) for the parts of a chunk.

        Each voxel of the chunk lies in exactly one part, and no part leaves the chunk.
        """
        whole, view = self.seen, self.view
        back = [-margin for margin in whole.margin]
        part = chunk.shift(whole.margin)
        if view is None:
            for roi, logits in self._answered(whole, part):
                yield roi.shift(back), logits
            return
        field = ViewField(whole, view)
        for roi, logits in self._answered(field, view.seen(part, whole.shape)):
            yield view.origin(roi, whole.shape).shift(back), view.turn_back(logits)

    def _answered(self, field: Field, chunk: Roi) -> Iterator[tuple[Roi, Tensor]]:
        least = self.use.window.empty_below
        if least is None or not self.use.skip_empty:
            yield from self._swept(field, chunk)
            return
        # Each core of the lattice is checked by itself, so that the windows that are
        # left out do not depend on the chunk.
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
    """Yield the chunk in 3D, and else its runs of as many slices as a window has."""
    shape = list(chunk.shape)
    if lattice.axis is not None:
        across = axis_index(lattice.axis)
        shape[across] = lattice.core[across]
    for run in blocks(chunk.shape, shape):
        yield run.shift(chunk.start)

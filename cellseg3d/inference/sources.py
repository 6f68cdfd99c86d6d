"""A source of class probabilities: a network on its lattice, along one axis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from cellseg3d.core.input_spec import InputSpec
from cellseg3d.core.roi import Roi
from cellseg3d.inference.engine import Engine
from cellseg3d.inference.field import Field
from cellseg3d.inference.lattice import Lattice, WindowPlan, lattice_of
from cellseg3d.inference.slices import sweep_slices
from cellseg3d.inference.windows import sweep_windows


@dataclass(frozen=True)
class Source:
    """One stream of logits over a volume.

    Parameters
    ----------
    name : str
        For people, such as ``"cell_tomo_unet25d along z"``.
    field : Field
        What its network sees of the volume.
    engine : Engine
    lattice : Lattice
    batch : int
        3D windows that run together.
    """

    name: str
    field: Field
    engine: Engine
    lattice: Lattice
    batch: int = 1

    def logits(self, chunk: Roi) -> Iterator[tuple[Roi, Tensor]]:
        """Yield (roi, logits of shape (K, *roi.shape)) that tile a chunk.

        Each voxel of the chunk comes exactly once; a roi never leaves the chunk.
        """
        if self.lattice.axis is None:
            parts = sweep_windows(
                self.field, self.engine, self.lattice, chunk, self.batch
            )
        else:
            parts = sweep_slices(self.field, self.engine, self.lattice, chunk)
        for roi, logits in parts:
            inside = roi.intersect(chunk)
            yield inside, logits[(slice(None), *inside.within(roi).slices)]


def sources_of(
    name: str,
    field: Field,
    engine: Engine,
    spec: InputSpec,
    plan: WindowPlan,
    stride: Sequence[int],
) -> list[Source]:
    """Return the sources of one network: one for 3D, one an axis for 2D and 2.5D."""
    axes: Sequence[str | None] = [None] if spec.spatial_dims == 3 else list(plan.axes)
    return [
        Source(
            name if axis is None else f"{name} along {axis}",
            field,
            engine,
            lattice_of(field.shape, spec, stride, plan, axis),
            plan.batch,
        )
        for axis in axes
    ]

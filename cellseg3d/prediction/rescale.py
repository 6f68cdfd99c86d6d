"""Whether, and how, a volume is brought to the voxels that its models have seen."""

from collections.abc import Sequence

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import SpacingError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.resampling import onto_spacing

# Voxel edges that differ by a smaller share are left as they are unless asked:
# networks are trained on scales that differ by more, and each resampling blurs.
NEAR = 0.1


def onto_training_grid(
    volume: Volume, models: Sequence[TrainedModel], *, rescale: bool | None
) -> Volume:
    """Return a volume on the grid that its models expect; itself where that is its own.

    Parameters
    ----------
    volume : Volume
    models : sequence of TrainedModel
    rescale : bool or None
        Whether to resample to the training's voxel edges; None does so where the
        training volumes were resampled as well, the volume's edges are known, and
        those that a network sees differ by more than `NEAR`.

    Raises
    ------
    SpacingError
        If an edge is unknown, or the models differ in theirs.
    """
    wanted = any(one.resampled for one in models) if rescale is None else rescale
    if not wanted:
        return volume
    edges = {model.spacing_um for model in models}
    target = next(iter(edges))
    if target is None or len(edges) > 1:
        message = (
            f"{volume.name}: cannot be rescaled: its bundles were trained on voxels of "
            f"{[str(edge) for edge in edges]}; give bundles of one spacing, or predict "
            "without rescaling"
        )
        raise SpacingError(message)
    if volume.spacing is not None:
        target = _without_unseen(volume.spacing, target, models)
    if rescale is None and (volume.spacing is None or _is_near(volume.spacing, target)):
        return volume
    return onto_spacing(volume, target)


def _without_unseen(
    here: Spacing, target: Spacing, models: Sequence[TrainedModel]
) -> Spacing:
    """Return the target with the volume's own edge where no network looks along it.

    A 2D network looks at slices across one axis, one at a time.
    """
    axes: set[str] = set()
    for model in models:
        if model.members or model.spec.spatial_dims == 3 or model.spec.context:
            return target
        axes.update(model.window.get("axes") or model.spec.axis)
    if len(axes) > 1:
        return target
    edges = list(target.zyx)
    across = axis_index(axes.pop())
    edges[across] = here.zyx[across]
    return Spacing.of(edges)


def _is_near(here: Spacing, target: Spacing) -> bool:
    pairs = zip(here.zyx, target.zyx, strict=True)
    return all(abs(one / two - 1) <= NEAR for one, two in pairs)

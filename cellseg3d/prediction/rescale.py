"""Resample a volume to the voxel size on which its models were trained."""

from collections.abc import Sequence

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import SpacingError
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.resampling import onto_spacing

# Voxel edges that differ by a smaller share are left as they are unless the user asks,
# because training augments scales by more than this, and each resampling blurs.
NEAR = 0.1


def onto_training_grid(
    volume: Volume, models: Sequence[TrainedModel], *, rescale: bool | None
) -> Volume:
    """Return the volume on the grid that its models expect.

    The volume itself is returned if it needs no resampling.

    Parameters
    ----------
    volume : Volume
    models : sequence of TrainedModel
    rescale : bool or None
        Whether to resample to the training's voxel edges. When None, this is done if
        the training volumes were resampled too, the volume's edges are known, and the
        edges that a network sees differ by more than `NEAR`.

    Raises
    ------
    SpacingError
        If the voxel size of the volume or of the training is unknown, or the models
        were trained on different ones.
    """
    wanted = any(one.resampled for one in models) if rescale is None else rescale
    if not wanted:
        return volume
    edges = {model.spacing_um for model in models}
    target = next(iter(edges))
    if target is None or len(edges) > 1:
        message = (
            f"{volume.name}: cannot be rescaled, because its bundles were trained on "
            f"voxels of {[str(edge) for edge in edges]}; give bundles of one spacing, "
            "or predict without rescaling"
        )
        raise SpacingError(message)
    if volume.spacing is not None:
        target = without_unseen(volume.spacing, target, models)
    if rescale is None and (volume.spacing is None or _is_near(volume.spacing, target)):
        return volume
    return onto_spacing(volume, target)


def without_unseen(
    here: Spacing, target: Spacing, models: Sequence[TrainedModel]
) -> Spacing:
    """Return the target with the volume's own edge along an axis no network sees.

    2D networks see slices across their axis one at a time, so the distance between
    slices does not matter to them.
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

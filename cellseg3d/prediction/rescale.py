"""Whether, and how, a volume is brought to the voxels that its models have seen."""

from collections.abc import Sequence

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.errors import SpacingError
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.resampling import onto_spacing


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
        training volumes were resampled as well.

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
    return onto_spacing(volume, target)

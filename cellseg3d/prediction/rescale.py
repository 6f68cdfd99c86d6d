"""Resample a volume to the voxels of the training, and labels back, lazily."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.axes import axis_index
from cellseg3d.core.errors import SpacingError
from cellseg3d.core.roi import Roi, Zyx, zyx
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import ArrayLike, Volume
from cellseg3d.prediction.predictor import TrainedModel

# Voxel edges that differ by a smaller share are left as they are: networks are trained
# on scales that differ by more, and each resampling blurs.
NEAR = 0.1


@dataclass(frozen=True)
class Resampled:
    """An array on another grid of the same box; regions are computed when asked for.

    Parameters
    ----------
    source : array, shape (Z, Y, X)
    shape : tuple of int
        Shape on the new grid.
    nearest : bool
        Pick the nearest voxel (labels), else interpolate linearly; where the new
        grid is coarser, over as many samples as it skips voxels.
    """

    source: ArrayLike
    shape: Zyx
    nearest: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a voxel: the source's for labels, else float32."""
        return np.dtype(self.source.dtype if self.nearest else "f4")

    def __getitem__(self, key: Any) -> NDArray[Any]:  # noqa: ANN401
        """Return the voxels of a region given by three slices of step 1."""
        pairs = [part.indices(n)[:2] for part, n in zip(key, self.shape, strict=True)]
        wanted = Roi(zyx([a for a, _ in pairs]), zyx([max(p) for p in pairs]))
        if wanted.size == 0:
            return np.empty(wanted.shape, self.dtype)
        taps = [self._taps(axis, wanted) for axis in range(3)]
        start = zyx([int(index.min()) for index, _ in taps])
        stop = zyx([int(index.max()) + 1 for index, _ in taps])
        values = np.asarray(self.source[Roi(start, stop).slices])
        if not self.nearest:
            values = values.astype(np.float32)
        for axis, (index, weight) in enumerate(taps):
            picked = values.take(index - start[axis], axis=axis)
            if self.nearest:
                values = np.squeeze(picked, axis + 1)
                continue
            shape = [1] * picked.ndim
            shape[axis], shape[axis + 1] = weight.shape
            values = (picked * weight.reshape(shape)).sum(axis + 1, dtype=np.float32)
        return values

    def _taps(self, axis: int, wanted: Roi) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return which source voxels, with which weights, make each voxel."""
        length = self.source.shape[axis]
        step = length / self.shape[axis]
        count = 1 if self.nearest else max(1, round(step))
        place = np.arange(wanted.start[axis], wanted.stop[axis])[:, None]
        part = (np.arange(count) + 0.5) / count
        centre = (place + part) * step - 0.5
        if self.nearest:
            near = np.clip(np.rint(centre).astype(int), 0, length - 1)
            return near, np.ones(near.shape, np.float32)
        low = np.clip(np.floor(centre).astype(int), 0, length - 1)
        high = np.minimum(low + 1, length - 1)
        upper = np.clip(centre - low, 0, 1).astype(np.float32)
        index = np.concatenate([low, high], axis=1)
        return index, np.concatenate([1 - upper, upper], axis=1) / np.float32(count)


def should_rescale(
    volume: Volume, models: Sequence[TrainedModel], *, asked: bool | None
) -> bool:
    """Return whether a volume is brought to the voxels of the training.

    Parameters
    ----------
    volume : Volume
    models : sequence of TrainedModel
    asked : bool or None
        What the user says; when None, wherever the edges of all are known and those
        that a network sees differ by more than `NEAR`.
    """
    if asked is not None:
        return asked
    edges = {model.spacing_um for model in models}
    target = next(iter(edges))
    if volume.spacing is None or target is None or len(edges) > 1:
        return False
    across = _across(models)
    return any(
        abs(here / there - 1) > NEAR
        for axis, (here, there) in enumerate(
            zip(volume.spacing.zyx, target.zyx, strict=True)
        )
        if axis != across
    )


def _across(models: Sequence[TrainedModel]) -> int | None:
    """Return the axis whose voxel edge no network sees; None when there is none.

    2D networks look at slices across one axis, one at a time.
    """
    axes: set[str] = set()
    for model in models:
        if model.members or model.spec.spatial_dims == 3 or model.spec.context:
            return None
        axes.update(model.window.get("axes") or model.spec.axis)
    return axis_index(axes.pop()) if len(axes) == 1 else None


def onto_training_grid(volume: Volume, models: Sequence[TrainedModel]) -> Volume:
    """Return a volume resampled to the voxel edges that its models were trained on.

    Raises
    ------
    SpacingError
        If an edge is unknown, or the models differ in theirs.
    """
    edges = {model.spacing_um for model in models}
    target = next(iter(edges))
    if volume.spacing is None or target is None or len(edges) > 1:
        message = (
            f"{volume.name}: cannot be rescaled: its spacing is {volume.spacing}, "
            f"its bundles' {[str(edge) for edge in edges]}; pass --spacing-um Z Y X, "
            "and bundles that were trained on one spacing"
        )
        raise SpacingError(message)
    across = _across(models)
    shape = [
        length if axis == across else max(1, round(length * here / there))
        for axis, (length, here, there) in enumerate(
            zip(volume.shape, volume.spacing.zyx, target.zyx, strict=True)
        )
    ]
    real = [
        length * here / new
        for length, here, new in zip(
            volume.shape, volume.spacing.zyx, shape, strict=True
        )
    ]
    array = Resampled(volume.array, zyx(shape))
    return replace(volume, array=array, spacing=Spacing.of(real))


def nearest_back(labels: ArrayLike, shape: Sequence[int]) -> Resampled:
    """Return labels on the grid they came from, each voxel the nearest one's."""
    return Resampled(labels, zyx(shape), nearest=True)

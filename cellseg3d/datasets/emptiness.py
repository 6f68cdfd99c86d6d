"""Below which intensity a window holds nothing, from labelled volumes."""

from collections.abc import Sequence

import numpy as np

from cellseg3d.core.grid import blocks
from cellseg3d.datasets.labels import IGNORE
from cellseg3d.datasets.volumes import LoadedCase

# Sides of the blocks, in voxels: well below a window's core, whose maximum is higher.
SIDE = 32
# A twentieth of the range of scaled intensities, for volumes that are a little darker.
MARGIN = 0.1


def empty_threshold(
    cases: Sequence[LoadedCase], side: int = SIDE, margin: float = MARGIN
) -> float | None:
    """Return the scaled intensity that every block with foreground reaches.

    A window whose voxels all lie below it held no foreground in these volumes. It
    says something only where foreground is brighter than empty background; elsewhere
    it is so low that no window lies below.

    Parameters
    ----------
    cases : sequence of LoadedCase
        Labelled; voxels of 255 count as not annotated.
    side : int
        Of the blocks, in voxels.
    margin : float
        Taken off, in scaled intensity, where 2 is the range of a volume.

    Returns
    -------
    float or None
        None where no voxel is foreground.
    """
    least = np.inf
    for case in cases:
        if case.label is None:
            continue
        for roi in blocks(case.label.shape, side):
            label = case.label[roi.slices]
            if not ((label > 0) & (label != IGNORE)).any():
                continue
            brightest = case.image[roi.slices].max(keepdims=True)
            scaled = case.scale.apply(brightest, case.offset, case.factor)
            least = min(least, float(scaled.item()))
    return None if np.isinf(least) else round(least - margin, 4)

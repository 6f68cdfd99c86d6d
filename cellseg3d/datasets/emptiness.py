"""Find the intensity below which a window holds no object, from labelled volumes."""

from collections.abc import Sequence

import numpy as np

from cellseg3d.core.grid import blocks
from cellseg3d.core.ignore import IGNORE
from cellseg3d.datasets.volumes import LoadedCase

# Side of the blocks, in voxels. It is smaller than the core of a window, so that the
# maximum of a window is no lower than that of the blocks inside it.
SIDE = 32
# This is a twentieth of the range of scaled intensities. It allows for volumes that are
# a little darker.
MARGIN = 0.1


def empty_threshold(
    cases: Sequence[LoadedCase], side: int = SIDE, margin: float = MARGIN
) -> float | None:
    """Return a scaled intensity that some voxel of every block with foreground reaches.

    Prediction may skip a window whose voxels are all darker. This saves time only if
    foreground is brighter than empty background; otherwise the threshold is so low that
    no window is skipped.

    Parameters
    ----------
    cases : sequence of LoadedCase
        Labelled volumes; label 255 is not annotated.
    side : int
        Side of the blocks, in voxels.
    margin : float
        What is subtracted from the threshold, in scaled intensity; the range of a
        volume is 2.

    Returns
    -------
    float or None
        None if no voxel is foreground.
    """
    least = np.inf
    for case in cases:
        if case.label is None:
            continue
        for roi in blocks(case.label.shape, side):
            label = case.label[roi.slices]
            if not ((label > 0) & (label != IGNORE)).any():
                continue
            part = case.image[(..., *roi.slices)]
            brightest = part.max(axis=(-3, -2, -1), keepdims=True)
            scaled = case.scale.apply(brightest, case.offset, case.factor)
            least = min(least, float(scaled.max()))
    return None if np.isinf(least) else round(least - margin, 4)

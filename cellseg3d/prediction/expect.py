"""Say what Dice is expected of a segmentation, from sums over its probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.metrics.expected_dice import LEVEL, soft_dice
from cellseg3d.prediction.pipeline import Pipeline

# The key in a segmentation's record.
KEY = "expected_dice"


def expected_dice(
    pipeline: Pipeline, classes: Sequence[str], sums: NDArray[np.float64] | None
) -> dict[str, Any] | None:
    """Return what Dice is expected of a volume's labels, ready for JSON.

    Parameters
    ----------
    pipeline : Pipeline
        The pipeline that predicted the volume.
    classes : sequence of str
        Names of the classes, background first.
    sums : ndarray of float64, shape (3, K), or None
        The sums of all chunks; None if they are not complete.

    Returns
    -------
    dict or None
        ``classes``: by name ``dice``, ``within`` (how far the interval reaches to each
        side; None if there were too few validation volumes) and ``soft``, the soft Dice
        that they come from. ``dice`` is None if no voxel has the class. ``level``: the
        share of volumes whose Dice is to lie in the interval. Where the volume does not
        look like those of the training, only ``untrusted``, the reason. None if nothing
        was measured for this way to predict.
    """
    known = pipeline.confidence
    if known is None or not known.lines:
        return None
    if pipeline.unlike:
        differences = " and ".join(pipeline.unlike)
        reason = (
            f"the volume does not look like those of the training ({differences}), so "
            "its probabilities cannot be trusted"
        )
        return {"untrusted": reason}
    if sums is None:
        return None
    found: dict[str, Any] = {}
    for name, soft in zip(classes, soft_dice(sums), strict=True):
        if name not in known.lines:
            continue
        if not np.isfinite(soft):
            found[name] = {"dice": None, "within": None, "soft": None}
            continue
        value, reach = known.lines[name].expect(float(soft))
        found[name] = {
            "dice": round(value, 4),
            "within": None if reach is None else round(reach, 4),
            "soft": round(float(soft), 4),
        }
    return {"classes": found, "level": LEVEL}

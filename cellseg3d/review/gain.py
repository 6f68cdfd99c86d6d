"""Score labels on reviewed pieces, before and after a training."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cellseg3d.bundle.model import TrainedModel
from cellseg3d.core.errors import ConfigError
from cellseg3d.metrics.contingency import count_pairs, total
from cellseg3d.metrics.overlap import class_counts
from cellseg3d.prediction.options import SegmentOptions
from cellseg3d.review.merge import Reviewed
from cellseg3d.review.prepare import PieceReader, open_reviewed


def dice_of(
    found: Sequence[NDArray[np.uint8]],
    corrected: Sequence[NDArray[np.uint8]],
    classes: Sequence[str],
) -> dict[str, float]:
    """Return the Dice of each foreground class over all pixels of some pieces.

    Parameters
    ----------
    found, corrected : sequences of ndarray of uint8, shape (rows, columns)
        Class indices of each piece. Pixels with 255 ("not annotated") in `corrected`
        do not count.
    classes : sequence of str
        Class names by value.

    Returns
    -------
    dict of str to float
        The Dice by class name, in [0, 1]; NaN if neither side holds the class.

    Examples
    --------
    >>> import numpy as np
    >>> found = np.array([[1, 1, 0, 1]], np.uint8)
    >>> right = np.array([[1, 0, 0, 255]], np.uint8)
    >>> round(dice_of([found], [right], ["background", "cell"])["cell"], 3)
    0.667
    """
    tables = [count_pairs(one, two) for one, two in zip(found, corrected, strict=True)]
    whole = [total(tables)]
    return {
        name: float(class_counts(whole, value)[0].dice)
        for value, name in enumerate(classes)
        if value
    }


def score_before(reviewed: Sequence[Reviewed]) -> dict[str, float]:
    """Return the Dice of the predicted labels against the corrected ones, by class."""
    return dice_of(
        [each.predicted for each in reviewed],
        [each.corrected for each in reviewed],
        reviewed[0].review.classes,
    )


def score_after(
    reviewed: Sequence[Reviewed],
    models: Sequence[TrainedModel],
    options: SegmentOptions | None = None,
) -> dict[str, float]:
    """Predict reviewed pieces again; return the Dice against the corrections, by class.

    Parameters
    ----------
    reviewed : sequence of Reviewed
        At least one piece.
    models : sequence of TrainedModel
        The networks to score; several are fused.
    options : SegmentOptions, optional
        Options of the prediction.

    Raises
    ------
    ConfigError
        If the networks have other classes than the review.
    InputError
        If the file of a volume has changed since the review was made.
    """
    classes = reviewed[0].review.classes
    if tuple(models[0].classes) != classes:
        message = (
            f"{models[0].name}: its classes {list(models[0].classes)} are not those "
            f"of the review, {list(classes)}; score a network trained on the review"
        )
        raise ConfigError(message)
    readers: dict[str, PieceReader] = {}
    found = []
    for each in reviewed:
        name = each.piece.volume
        if name not in readers:
            volume = open_reviewed(each.review, name)
            readers[name] = PieceReader(volume, models, options or SegmentOptions())
        labels, _ = readers[name].read(each.piece.roi)
        found.append(each.piece.flat(labels))
    return dice_of(found, [each.corrected for each in reviewed], classes)


def gains(
    reviewed: Sequence[Reviewed],
    models: Sequence[TrainedModel],
    options: SegmentOptions | None = None,
) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """Return the Dice before and after a training, on pieces it used and on others.

    Parameters
    ----------
    reviewed, models, options
        As for `score_after`. Pieces that were held back are scored apart.

    Returns
    -------
    dict of str to mapping
        The keys are ``"trained on"`` and ``"held back"``, as far as there are such
        pieces. Each holds the Dice by class under ``"before"`` and ``"after"``.
    """
    kinds = {
        "trained on": [each for each in reviewed if not each.held_back],
        "held back": [each for each in reviewed if each.held_back],
    }
    return {
        kind: {
            "before": score_before(these),
            "after": score_after(these, models, options),
        }
        for kind, these in kinds.items()
        if these
    }

"""Temperature scaling: one number that makes stated probabilities come true.

A network that is too certain is corrected by dividing its logits by a temperature above
1 before the softmax. The likeliest class of a voxel stays the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cellseg3d.core.errors import LabelError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.metrics.calibration import Reliability, binned

# The temperatures that are tried lie between these.
LOWEST, HIGHEST = 0.05, 20.0
# The most voxels that a temperature is fitted on; more do not change its third digit.
FITTED = 200_000


def fit_temperature(scores_kn: NDArray[Any], labels_n: NDArray[Any]) -> float:
    """Return the temperature under which the labels are likeliest.

    Parameters
    ----------
    scores_kn : ndarray of float, shape (K, n)
        Logits, or logarithms of probabilities, of n voxels.
    labels_n : ndarray of integers, shape (n,)
        The true class of each voxel; those of 255 are not counted.

    Returns
    -------
    float
        The temperature with the lowest negative log likelihood [1]_, between `LOWEST`
        and `HIGHEST`.

    Raises
    ------
    LabelError
        If no voxel is annotated, or a label is not one of the K classes.

    References
    ----------
    .. [1] Guo et al. 2017, doi:10.48550/arXiv.1706.04599

    Examples
    --------
    Logits of 4 that are right in 9 of 10 cases are too certain:

    >>> import numpy as np
    >>> scores = np.tile([[0.0], [4.0]], 10)
    >>> round(fit_temperature(scores, np.array([0] + [1] * 9)), 2)
    1.82
    """
    scores, labels = _known(scores_kn, labels_n)
    step = max(1, len(labels) // FITTED)
    scores, labels = scores[:, ::step], labels[::step]
    found = minimize_scalar(
        lambda power: _nll(scores / np.exp(power), labels),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
    )
    return float(np.exp(found.x))


def likelihood_loss(
    scores_kn: NDArray[Any], labels_n: NDArray[Any], temperature: float = 1.0
) -> float:
    """Return the mean negative log likelihood of the true classes, in nats."""
    scores, labels = _known(scores_kn, labels_n)
    return _nll(scores / temperature, labels)


def top_reliability(
    scores_kn: NDArray[Any],
    labels_n: NDArray[Any],
    temperature: float = 1.0,
    bins: int = 15,
) -> Reliability:
    """Return how often the likeliest class is right, by its stated probability.

    Its `Reliability.ece` is the expected calibration error of several classes.

    Parameters
    ----------
    scores_kn, labels_n
        As for `fit_temperature`.
    temperature : float
        What the scores are divided by first.
    bins : int
        Number of bins of equal width between 0 and 1.
    """
    scores, labels = _known(scores_kn, labels_n)
    shifted = (scores - scores.max(0)) / temperature
    stated = 1 / np.exp(shifted).sum(0)
    return binned(stated, scores.argmax(0) == labels, bins)


def errors_in_words(found: Mapping[str, Any]) -> str:
    """Return in one sentence what a temperature changed on validation volumes.

    Examples
    --------
    >>> errors = {"ece": [0.031, 0.012], "nll": [0.2, 0.15]}
    >>> errors_in_words({"temperature": 1.5, "volumes": ["a"], **errors})
    'logits are divided by 1.50, fitted on 1 validation volume: ECE .031 to .012, NLL \
.200 to .150'
    """
    count = len(found.get("volumes", ()))
    pairs = [
        f"{name.upper()} {_short(found[name][0])} to {_short(found[name][1])}"
        for name in ("ece", "nll")
    ]
    volumes = f"{count} validation volume{'s' * (count != 1)}"
    return (
        f"logits are divided by {found['temperature']:.2f}, fitted on {volumes}: "
        f"{', '.join(pairs)}"
    )


def known_errors(values: Any) -> Sequence[str]:  # noqa: ANN401
    """Return `errors_in_words` of stored values in a list; empty if they are none."""
    try:
        return [errors_in_words(values)]
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        return []


def _known(
    scores_kn: NDArray[Any], labels_n: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    known = labels_n != IGNORE
    labels = labels_n[known].astype(np.int64)
    if not len(labels) or int(labels.max()) >= len(scores_kn):
        highest = int(labels.max()) if len(labels) else "none"
        message = (
            f"temperature: {len(labels)} voxels are annotated, and the highest label "
            f"is {highest}; expected at least one voxel, and labels below "
            f"{len(scores_kn)}, the number of classes"
        )
        raise LabelError(message)
    return scores_kn[:, known].astype(np.float64), labels


def _nll(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    top = scores.max(0)
    total = np.log(np.exp(scores - top).sum(0)) + top
    own = np.take_along_axis(scores, labels[None], 0)[0]
    return float((total - own).mean())


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")

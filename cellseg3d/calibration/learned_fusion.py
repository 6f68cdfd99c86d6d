"""Learn on validation volumes how much each source counts for each class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.prediction.fusion import probs_of
from cellseg3d.prediction.pipeline import alone
from cellseg3d.prediction.sources import Source

# A source that raises the mean Dice by less than this is left out.
LEAST_GAIN = 0.002
# The most voxels on which Dice is measured, and on which a mixture is fitted.
SAMPLE, FITTED = 200_000, 20_000
# The most steps of a fit, and the change of a weight below which it ends.
ROUNDS, SETTLED = 200, 1e-4


@dataclass(frozen=True)
class LearnedWeights:
    """The learned weights of some sources, and the gain in Dice.

    Parameters
    ----------
    names : tuple of str
        The names of the sources.
    rows : tuple of tuple of float
        One row for each source with one number >= 0 for each class.
    dice, dice_mean : float
        The mean Dice over classes on the validation volumes, with these weights and
        with equal ones.
    sentence : str
        A sentence for the user that says which sources help.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    dice: float
    dice_mean: float
    sentence: str


def fit_weights(
    names: Sequence[str],
    probs_skn: NDArray[np.float32],
    labels_n: NDArray[np.uint8],
) -> LearnedWeights:
    """Fit weights to validation voxels.

    For each class, expectation maximisation [1]_ finds the mixture of the sources under
    which the true answers, class or not, are likeliest. Equal weights are taken if
    their Dice is higher. Then sources are left out, one by one, as long as Dice falls
    by no more than `LEAST_GAIN`.

    Parameters
    ----------
    names : sequence of str
        The names of the S sources.
    probs_skn : ndarray of float32, shape (S, K, n)
        Probabilities of n voxels, in [0, 1].
    labels_n : ndarray of uint8, shape (n,)
        The classes of the voxels; those of 255 are not counted.

    Returns
    -------
    LearnedWeights

    Raises
    ------
    ConfigError
        If no voxel is annotated, or the shapes do not fit.

    References
    ----------
    .. [1] Dempster et al. 1977, J. R. Stat. Soc. B 39:1,
       doi:10.1111/j.2517-6161.1977.tb01600.x
    """
    known = labels_n != IGNORE
    if not known.any() or probs_skn.shape[::2] != (len(names), len(labels_n)):
        message = (
            f"learned fusion: there are {int(known.sum())} annotated voxels, and "
            f"probabilities of shape {probs_skn.shape} for {len(names)} sources; "
            "expected at least one voxel, and shape (sources, classes, voxels)"
        )
        raise ConfigError(message)
    probs, labels = probs_skn[:, :, known], labels_n[known]
    kept = list(range(len(names)))
    before, _ = _dice_of_equal(probs, labels, kept)
    best, rows = _best_rows(probs, labels, kept)
    final = best
    while len(kept) > 1:
        trials = []
        for source in kept:
            rest = [each for each in kept if each != source]
            dice, weights = _best_rows(probs, labels, rest)
            trials.append((dice, source, weights))
        dice, source, weights = max(trials, key=lambda trial: trial[0])
        if dice < best - LEAST_GAIN:
            break
        kept.remove(source)
        rows, final, best = weights, dice, max(best, dice)
    sentence = _sentence(names, kept, final, before)
    return LearnedWeights(
        tuple(names), tuple(map(tuple, rows.tolist())), final, before, sentence
    )


def held_out_gain(
    names: Sequence[str],
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8]]],
) -> float | None:
    """Return the gain in Dice on volumes that the weights were not fitted on.

    Each volume is scored with weights fitted on all others.

    Parameters
    ----------
    names : sequence of str
        The names of the S sources.
    parts : sequence of tuple of ndarray
        Probabilities (S, K, n) and labels (n,) of each volume.

    Returns
    -------
    float or None
        The Dice with such weights less the Dice with equal ones, averaged over the
        volumes. It is None for a single volume.
    """
    if len(parts) < 2:
        return None
    gains = []
    for index, (probs, labels) in enumerate(parts):
        others = [part for other, part in enumerate(parts) if other != index]
        learned = fit_weights(names, *together(others))
        equal = np.ones(probs.shape[:2])
        gains.append(
            mean_dice(_fused(probs, np.array(learned.rows)), labels)
            - mean_dice(_fused(probs, equal), labels)
        )
    return float(np.mean(gains))


def together(
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8]]],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the voxels of several volumes joined into one array each."""
    probs, labels = zip(*parts, strict=True)
    return np.concatenate(probs, axis=2), np.concatenate(labels)


def sample_sources(
    sources: Sequence[Source],
    labels_zyx: NDArray[np.uint8],
    most: int = SAMPLE,
    seed: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the probabilities of sources at annotated voxels of a validation volume.

    Parameters
    ----------
    sources : sequence of Source
        Sources on the volume.
    labels_zyx : ndarray of uint8, shape (Z, Y, X)
        The labels of the volume; 255 is not annotated.
    most : int
        The most voxels that are drawn.
    seed : int
        Seed of the random choice of voxels.

    Returns
    -------
    tuple of ndarray
        Probabilities (S, K, n), float32, and labels (n,), uint8.
    """
    places = np.flatnonzero(labels_zyx != IGNORE)
    if len(places) > most:
        rng = np.random.default_rng(seed)
        places = np.sort(rng.choice(places, most, replace=False))
    # The place of each voxel among those drawn; -1 for voxels that were not drawn.
    rank = np.full(labels_zyx.size, -1, np.int32)
    rank[places] = np.arange(len(places))
    rank_zyx = rank.reshape(labels_zyx.shape)
    shape = (len(sources), sources[0].classes, len(places))
    found = np.empty(shape, np.float32)
    for index, source in enumerate(sources):
        pipeline = alone(source)
        for chunk in pipeline.chunks():
            for _, roi, logits in pipeline.logits(chunk):
                drawn = rank_zyx[roi.slices]
                here = drawn >= 0
                probs = probs_of(logits).cpu().numpy()
                found[index][:, drawn[here]] = probs[:, here]
    return found, labels_zyx.ravel()[places].astype(np.uint8)


def mean_dice(fused_kn: NDArray[np.floating], labels_n: NDArray[np.uint8]) -> float:
    """Return the mean Dice of the foreground classes that occur in the labels."""
    found = fused_kn.argmax(0)
    scores = []
    for index in range(1, len(fused_kn)):
        here, there = found == index, labels_n == index
        if there.any():
            scores.append(2 * (here & there).sum() / (here.sum() + there.sum()))
    return float(np.mean(scores)) if scores else 0.0


def _fused(
    probs: NDArray[np.float32], rows: NDArray[np.floating]
) -> NDArray[np.floating]:
    fused: NDArray[np.floating] = np.einsum("sk,skn->kn", rows / rows.sum(0), probs)
    return fused


def _best_rows(
    probs: NDArray[np.float32], labels: NDArray[np.uint8], kept: Sequence[int]
) -> tuple[float, NDArray[np.floating]]:
    """Return the higher Dice of mixed and equal weights of some sources, and these."""
    mixed = np.zeros(probs.shape[:2])
    step = max(1, len(labels) // FITTED)
    mixed[kept] = _mixture(probs[kept][:, :, ::step], labels[::step])
    dice = mean_dice(_fused(probs, mixed), labels)
    dice_equal, equal = _dice_of_equal(probs, labels, kept)
    return (dice, mixed) if dice >= dice_equal else (dice_equal, equal)


def _dice_of_equal(
    probs: NDArray[np.float32], labels: NDArray[np.uint8], kept: Sequence[int]
) -> tuple[float, NDArray[np.floating]]:
    equal = np.zeros(probs.shape[:2])
    equal[kept] = 1 / len(kept)
    return mean_dice(_fused(probs, equal), labels), equal


def _mixture(
    probs: NDArray[np.float32], labels: NDArray[np.uint8]
) -> NDArray[np.floating]:
    """Return the mixture weights (S, K) of each class against all others."""
    rows = np.full(probs.shape[:2], 1 / len(probs))
    for index in range(probs.shape[1]):
        true = labels == index
        likely = np.where(true, probs[:, index], 1 - probs[:, index]).clip(1e-6)
        # Voxels of the class and all others count alike, even if the class is rare.
        weight = np.where(true, 0.5 / max(1, true.sum()), 0.5 / max(1, (~true).sum()))
        row = rows[:, index].copy()
        for _ in range(ROUNDS):
            share = row[:, None] * likely
            new = (share / share.sum(0) * weight).sum(1)
            new /= new.sum()
            moved = float(np.abs(new - row).max())
            row = new
            if moved < SETTLED:
                break
        rows[:, index] = row
    return rows


def _sentence(
    names: Sequence[str], kept: Sequence[int], dice: float, before: float
) -> str:
    """Return a sentence for the user that says which sources help."""
    gain = f"Dice {dice:.4f} against {before:.4f} with equal weights"
    if len(kept) == 1 < len(names):
        return f"{names[kept[0]]} alone is as good ({gain})"
    left = [name for index, name in enumerate(names) if index not in kept]
    if left:
        return f"{', '.join(left)} does not help and is left out ({gain})"
    return f"all {len(names)} sources help ({gain})"

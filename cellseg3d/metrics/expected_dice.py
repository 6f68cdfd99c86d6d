"""Tell the Dice that labels will have, from their probabilities alone.

If the stated probabilities are right, the Dice of a class is expected to be twice the
sum of its probabilities over the voxels that got its label, divided by the number of
these voxels plus the sum of its probabilities over all voxels. This is its soft Dice.
On labelled volumes that did not train the network, a line is fitted from soft to true
Dice, and what the line misses gives the interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# The share of volumes whose Dice is to lie in the interval.
LEVEL = 0.9
# Fewer volumes (or groups of volumes) than this give no interval.
LEAST_GROUPS = 3
# An interval is at least this wide to each side.
LEAST_WIDTH = 0.01
# A slope is drawn towards 1 as strongly as a volume does whose soft Dice lies this far
# from the mean.
PRIOR = 0.1


def soft_dice(sums_3k: NDArray[Any]) -> NDArray[np.float64]:
    """Return the soft Dice of each class, shape (K,); NaN where no voxel has its label.

    Parameters
    ----------
    sums_3k : ndarray of float64, shape (3, K)
        For each class the number of voxels with its label, the sum of its
        probabilities, and their sum over the voxels with its label.

    Examples
    --------
    >>> import numpy as np
    >>> soft_dice(np.array([[90.0, 10.0], [88.0, 12.0], [86.0, 8.0]])).round(3)
    array([0.966, 0.727])
    """
    found, likely, both = np.asarray(sums_3k, np.float64)
    soft: NDArray[np.float64] = np.full(len(found), np.nan)
    some = found > 0
    soft[some] = 2 * both[some] / (found[some] + likely[some])
    return soft


@dataclass(frozen=True)
class DiceLine:
    """The line from soft to true Dice of one class.

    Parameters
    ----------
    n : int
        The number of volumes it was fitted on.
    groups : int
        The number of groups of volumes that were left out in turn.
    centre : float
        The mean soft Dice.
    mean : float
        The mean true Dice.
    slope : float
        The rise of the true Dice with the soft Dice.
    spread : float
        The sum of the squared distances of the soft Dice from its mean.
    error : float or None
        The root mean square of what lines miss on groups that they were not fitted on;
        None with fewer than `LEAST_GROUPS` groups.
    """

    n: int
    groups: int
    centre: float
    mean: float
    slope: float
    spread: float
    error: float | None

    def expect(self, soft: float) -> tuple[float, float | None]:
        """Return the expected Dice, and how far to each side the interval reaches."""
        value = min(1.0, max(0.0, self.mean + self.slope * (soft - self.centre)))
        if self.error is None:
            return value, None
        # The line is less sure away from the volumes that it was fitted on.
        here = 1 / self.n + (soft - self.centre) ** 2 / (self.spread + PRIOR**2)
        usual = 1 / self.n + self.spread / self.n / (self.spread + PRIOR**2)
        grown = math.sqrt((1 + here) / (1 + usual))
        reach = float(stats.t.ppf((1 + LEVEL) / 2, self.groups - 1)) * self.error
        return value, max(LEAST_WIDTH, reach * max(1.0, grown))

    def as_dict(self) -> dict[str, Any]:
        """Return the line as a mapping for JSON, rounded to 5 digits."""
        return {
            key: round(value, 5) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "DiceLine":
        """Return the line that a mapping holds.

        Raises
        ------
        ValueError, TypeError, KeyError
            If a value is missing or not a finite number.
        """
        numbers = {
            key: float(values[key]) for key in ("centre", "mean", "slope", "spread")
        }
        error = None if values["error"] is None else float(values["error"])
        if not all(map(math.isfinite, (*numbers.values(), error or 0.0))):
            raise ValueError(f"{dict(values)} holds a number that is not finite")
        return cls(int(values["n"]), int(values["groups"]), **numbers, error=error)


def fit_dice_line(
    soft: Sequence[float], true: Sequence[float], groups: Sequence[str]
) -> DiceLine | None:
    """Fit the line from soft to true Dice of one class.

    Parameters
    ----------
    soft, true : sequence of float
        Soft and true Dice of each volume; a volume in which one is NaN is left out.
    groups : sequence of str
        The group of each volume, such as its specimen. Groups are left out in turn to
        measure what the line misses.

    Returns
    -------
    DiceLine or None
        None if no volume is left.

    Examples
    --------
    >>> line = fit_dice_line([0.8, 0.9, 0.85, 0.95], [0.7, 0.82, 0.77, 0.86], "abcd")
    >>> value, reach = line.expect(0.9)
    >>> round(value, 3), round(reach, 3)
    (0.813, 0.032)
    """
    table = np.array([soft, true], np.float64)
    kept = np.isfinite(table).all(0)
    if not kept.any():
        return None
    x, y = table[:, kept]
    names = np.array(list(groups))[kept]
    centre, mean, slope = _line(x, y)
    missed = []
    unique = np.unique(names)
    if len(unique) >= LEAST_GROUPS:
        for name in unique:
            out = names == name
            at, level, rise = _line(x[~out], y[~out])
            missed.append(y[out] - (level + rise * (x[out] - at)).clip(0, 1))
    error = float(np.sqrt((np.concatenate(missed) ** 2).mean())) if missed else None
    spread = float(((x - centre) ** 2).sum())
    return DiceLine(len(x), len(unique), centre, mean, slope, spread, error)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    centre, mean = float(x.mean()), float(y.mean())
    off = x - centre
    rise = (off @ (y - mean - off)) / (off @ off + PRIOR**2)
    return centre, mean, float(1 + rise)


def in_words(expected: Mapping[str, Any]) -> str:
    """Return in one sentence what Dice is expected of a volume's labels.

    Parameters
    ----------
    expected : mapping
        What a segmentation's record holds under ``expected_dice``: ``classes``, each
        with ``dice`` and ``within``, or the reason why no figure is given under
        ``untrusted``.

    Examples
    --------
    >>> in_words({"classes": {"nucleus": {"dice": 0.851, "within": 0.05}}})
    'expect a Dice of .85 +- .05 for nucleus here'
    """
    if expected.get("untrusted"):
        return f"no Dice is expected here: {expected['untrusted']}"
    parts = []
    for name, row in expected.get("classes", {}).items():
        if row.get("dice") is None:
            parts.append(f"none for {name} (no voxel has its label)")
            continue
        around = row.get("within")
        reach = "" if around is None else f" +- {_short(around)}"
        few = " (no interval: too few validation volumes)" if around is None else ""
        parts.append(f"{_short(row['dice'])}{reach} for {name}{few}")
    return f"expect a Dice of {', '.join(parts)} here" if parts else ""


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")

"""Judge from the scores whether a training needs more time or more labels."""

from collections.abc import Mapping, Sequence
from typing import Any

# The mean Dice from which a training counts as good enough, and the gain in the last
# third of a training above which the network still learns.
ENOUGH, GAIN = 0.9, 0.01
LEAST_SCORES = 4


def verdict(history: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence on what would help a training; empty if it is unknown.

    The best validation score in the last third of the training is compared with the
    best score before.

    Parameters
    ----------
    history : sequence of mapping
        Rows of the history, with ``iteration`` and, if validated, ``score``.
    """
    rows = [
        (float(row["iteration"]), float(row["score"]))
        for row in history
        if row.get("score") is not None and "iteration" in row
    ]
    if len(rows) < LEAST_SCORES:
        return ""
    end = rows[-1][0]
    before = [score for step, score in rows if step <= end * 2 / 3]
    late = [score for step, score in rows if step > end * 2 / 3]
    if not before or not late:
        return ""
    gain = max(late) - max(before)
    best = max(*late, *before)
    if gain > GAIN:
        return (
            f"the score still rose by {gain:.3f} in the last third: more time helps; "
            "continue with --resume and more --epochs or --minutes"
        )
    if best >= ENOUGH:
        return "the score no longer rises and is high: the training was long enough"
    return (
        "the score no longer rises: more labels help more than more time; begin with "
        "what the network gets wrong"
    )

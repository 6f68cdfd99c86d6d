"""Say in words whether a training wants more time, more labels, or is good enough."""

from collections.abc import Mapping, Sequence
from typing import Any

# A mean Dice that people take for enough, and a gain per third of the time that tells
# that a training still learns.
ENOUGH, GAIN = 0.9, 0.01
LEAST_SCORES = 4


def verdict(history: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence on what would help a training; empty if nothing tells.

    The scores of the validation volumes are compared: the best of the last third of
    the training with the best before.

    Parameters
    ----------
    history : sequence of mapping
        Rows of ``run.json``, with ``iteration`` and ``score`` where it was validated.
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
            "go on with --resume and more --epochs or --minutes"
        )
    if best >= ENOUGH:
        return "the score no longer rises and is high: the training was long enough"
    return (
        "the score no longer rises: more labels help more than more time, first of "
        "what the network gets wrong"
    )

"""The Dice that was expected of each volume, beside the one that was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from cellseg3d.report.evaluation import ReportScores
from cellseg3d.report.inputs import ReportVolume
from cellseg3d.report.tables import UNDEFINED, text


def expected_rows(
    volumes: Sequence[ReportVolume], scores: ReportScores
) -> dict[str, Any] | None:
    """Return a table of the expected Dice of each volume and class; None without any.

    Parameters
    ----------
    volumes : sequence of ReportVolume
    scores : ReportScores
        The scores of the volumes with a truth.

    Returns
    -------
    dict or None
        ``head``, ``rows`` of text, and ``notes``: a sentence for each volume of which
        no Dice can be expected.
    """
    rows, notes = [], []
    for volume in volumes:
        if reason := volume.expected.get("untrusted"):
            notes.append(f"{volume.name}: no Dice is expected: {reason}.")
        known = scores.table.get("volumes", {}).get(volume.name, {})
        for name, row in _classes(volume.expected).items():
            measured = known.get(name, {}).get("dice")
            rows.append([volume.name, name, *_told(row), text(measured)])
    if not rows and not notes:
        return None
    head = ["volume", "class", "expected Dice", "within", "measured Dice"]
    if all(row[-1] == UNDEFINED for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return {"head": head, "rows": rows, "notes": notes}


def _classes(expected: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = expected.get("classes", {})
    if not isinstance(found, Mapping):
        return {}
    return {str(k): row for k, row in found.items() if isinstance(row, Mapping)}


def _told(row: Mapping[str, Any]) -> tuple[str, str]:
    reach = row.get("within")
    around = UNDEFINED if reach is None else f"+- {text(reach)}"
    return text(row.get("dice")), around

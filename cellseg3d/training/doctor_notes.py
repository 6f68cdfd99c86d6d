"""Keep the doctor's warnings in the run folder, for the record of the training."""

import json
from collections.abc import Sequence
from pathlib import Path

from cellseg3d.core.atomic import write_text

NAME = "doctor.json"


def keep_notes(folder: Path, lines: Sequence[str]) -> None:
    """Write the doctor's warnings into a run folder.

    Raises
    ------
    EnvironmentFault
        If the folder cannot be written.
    """
    text = json.dumps({"warnings": list(lines)}, indent=1) + "\n"
    write_text(folder / NAME, text)


def kept_notes(folder: Path) -> list[str]:
    """Return the doctor's warnings in a run folder; an empty list without a file."""
    path = folder / NAME
    if not path.is_file():
        return []
    return [
        str(line) for line in json.loads(path.read_text(encoding="utf-8"))["warnings"]
    ]

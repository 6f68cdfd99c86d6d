"""The explanations of objects that lie beside a volume's labels."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import ConfigError
from cellseg3d.core.mappings import read_mapping
from cellseg3d.datasets.cases import case_stem
from cellseg3d.io.registry import split_inner
from cellseg3d.report.inputs import ReportVolume

# The most pictures on a page, and the most bytes of one.
MOST, MOST_BYTES = 12, 1_500_000


def explanations_of(volumes: Sequence[ReportVolume]) -> list[dict[str, Any]]:
    """Return what `cellseg3d explain` wrote beside the labels of some volumes.

    Returns
    -------
    list of dict
        ``name``, ``picture`` (a data URL), ``head`` and ``rows`` of the deletion test,
        and ``warning`` if the attribution did not pass it.
    """
    found: list[dict[str, Any]] = []
    for volume in volumes:
        file = split_inner(volume.paths["prediction"], None)[0]
        stem = case_stem(str(file)).removesuffix("_labels").removesuffix("_objects")
        for record in sorted(file.parent.glob(f"{_plain(stem)}_explain_*.json")):
            if len(found) < MOST and (row := _read(record, volume.name)) is not None:
                found.append(row)
    return found


def _plain(stem: str) -> str:
    """Return a name in which no letter stands for others in a search for files."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)


def _read(record: Path, volume: str) -> dict[str, Any] | None:
    picture = record.with_suffix(".png")
    try:
        known = read_mapping(record)
        tested = known["deletion"]
        rows = [
            [f"{row['voxels']:,}", f"{row['fall']:.2f}", f"{row['fall_random']:.2f}"]
            for row in tested["rows"]
        ]
        name = f"{volume}, {known['object']}: {known['class']}"
        holds = bool(tested["holds"])
    except (ConfigError, KeyError, TypeError, ValueError):
        return None
    if not picture.is_file() or picture.stat().st_size > MOST_BYTES:
        return None
    data = base64.b64encode(picture.read_bytes()).decode("ascii")
    return {
        "name": name,
        "picture": f"data:image/png;base64,{data}",
        "head": ["voxels taken out", "fall of the score", "fall for random voxels"],
        "rows": rows,
        "warning": ""
        if holds
        else ("The attribution does not pass this test; do not rely on it here."),
    }

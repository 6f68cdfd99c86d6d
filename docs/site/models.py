"""The table of networks in the README, from what was measured of their weights.

``python docs/site/models.py`` writes the table anew.
"""

import re
from pathlib import Path

from cellseg3d.bundle.compose import read_config
from cellseg3d.bundle.shipped import shipped_bundles, weights_file

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
_PLACE = re.compile(
    r"(?<=<!-- networks -->\n).*?(?=<!-- end of networks -->)", re.DOTALL
)


def table() -> str:
    """Return a table of the bundles that have weights."""
    rows = ["| bundle | finds | voxel edges (z, y, x) | scores on what it never saw |"]
    rows.append("| --- | --- | --- | --- |")
    for name, folder in shipped_bundles().items():
        if not weights_file(folder).is_file():
            continue
        facts = read_config(folder / "configs" / "metadata.json")
        finds = facts["description"].partition(";")[0]
        rows.append(
            f"| [{name}](bundles/{name}/docs/README.md) | {finds} | "
            f"{_edges(facts.get('spacing_um'))} | {facts['score']} |"
        )
    return "\n".join(rows) + "\n"


def _edges(spacing_um: list[float] | None) -> str:
    if not spacing_um:
        return "any"
    if len(set(spacing_um)) == 1:
        return f"{spacing_um[0]:g} um"
    return " x ".join(f"{edge:g}" for edge in spacing_um) + " um"


def with_table(text: str) -> str:
    """Return the README's text with the table of today."""
    return _PLACE.sub(lambda _: table(), text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), "utf-8")

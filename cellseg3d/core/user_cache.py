"""Small files that cellseg3d keeps for the user between runs."""

import contextlib
import json
from pathlib import Path
from typing import Any

from cellseg3d.core.atomic import write_text


def user_cache() -> Path:
    """Return the folder of what is kept, below the user's home folder."""
    return Path.home() / ".cache" / "cellseg3d"


def kept(name: str) -> dict[str, Any]:
    """Return the values that are kept under a name; none where they cannot be read.

    Parameters
    ----------
    name : str
        The name of the file, without ``.json``.
    """
    try:
        found = json.loads((user_cache() / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        # A home folder that is missing or broken costs a measurement, no more.
        return {}
    return found if isinstance(found, dict) else {}


def keep(name: str, key: str, value: object) -> None:
    """Keep one value under a name and a key, where the folder can be written.

    Parameters
    ----------
    name : str
        The name of the file, without ``.json``.
    key : str
    value : object
        Anything that JSON holds.
    """
    values = {**kept(name), key: value}
    with contextlib.suppress(OSError, RuntimeError):
        user_cache().mkdir(parents=True, exist_ok=True)
        write_text(user_cache() / f"{name}.json", json.dumps(values, indent=1) + "\n")

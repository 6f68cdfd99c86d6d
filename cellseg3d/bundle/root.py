"""Find the folder of a bundle whose config MONAI's own tools read."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any


def find_root() -> str:
    """Return the folder of the bundle whose config calls this.

    Only `python -m monai.bundle` and `monai.bundle.load` need it; the commands of this
    package set ``bundle_root`` themselves, by
    `cellseg3d.bundle.resolve.resolve_in_place`. MONAI does not tell a config which file
    it comes from, so this function searches the call stack: MONAI's workflow holds the
    folder of its config files, and its export functions hold the file's path. If
    neither is found, the result is ``"."``, MONAI's own default.

    Returns
    -------
    str
        The value for ``bundle_root``; MONAI's option ``--bundle_root`` overrides it.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        folder = _config_folder(frame.f_locals)
        if folder is not None:
            is_configs = folder.name == "configs"
            return str((folder.parent if is_configs else folder).resolve())
        frame = frame.f_back
    return "."


def _config_folder(names: Mapping[str, Any]) -> Path | None:
    owner = names.get("self")
    folder = getattr(owner, "__dict__", {}).get("config_root_path")
    if isinstance(folder, Path):
        return folder
    files = names.get("config_file_")
    if isinstance(files, list | tuple) and files:
        files = files[0]
    return Path(files).parent if isinstance(files, str) else None

"""Tell MONAI's own tools where the bundle lies whose config they read."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any


def find_root() -> str:
    """Return the folder of the bundle whose config asks.

    Only `python -m monai.bundle` and `monai.bundle.load` need it: our own verbs set
    ``bundle_root`` (`cellseg3d.bundle.resolve.resolve_in_place`). MONAI tells a config
    everything but where it lies, so this looks at who is parsing: MONAI's workflow
    keeps the folder of its config files, its export functions keep the file's path.
    Whoever parses a config by hand gets ``"."``, MONAI's own default.

    Returns
    -------
    str
        For ``bundle_root``; ``--bundle_root`` overrides it.
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

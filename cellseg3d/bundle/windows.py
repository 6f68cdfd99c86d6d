"""The windows in a bundle's configs: its own, or one of each of its networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import Config, read_config

# The window stands in each of them; predict reads the one of inference.
FILES = ("train", "inference", "evaluate")
# The name of a bundle's own window, beside those of its members.
OWN = ""
Window = dict[str, Any]


def members_in(config: Config) -> dict[str, Config]:
    """Return the blocks of the networks that a config fuses, by name."""
    members = config.get("network_def", {}).get("members", {})
    return dict(members) if isinstance(members, Mapping) else {}


def read_windows(folder: Path) -> dict[str, Window]:
    """Return what a bundle says of its windows.

    Parameters
    ----------
    folder : Path
        A run or bundle.

    Returns
    -------
    dict of str to dict
        By member; of one network under ``""``.
    """
    config = read_config(folder / "configs" / "inference.json")
    members = members_in(config)
    if members:
        return {name: dict(block.get("window", {})) for name, block in members.items()}
    return {OWN: dict(config["window"])}


def store_windows(folder: Path, windows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write windows into all configs of a run or bundle that have them.

    Parameters
    ----------
    folder : Path
        A run or bundle.
    windows : mapping of str to mapping
        As `read_windows` returns them; what `prediction.lattice.WindowSettings.parse`
        reads.
    """
    for file in FILES:
        path = folder / "configs" / f"{file}.json"
        if not path.is_file():
            continue
        config = read_config(path)
        members = members_in(config)
        for name, window in windows.items():
            if name in members:
                members[name] = {**members[name], "window": dict(window)}
            elif name == OWN and "window" in config:
                config["window"] = dict(window)
        if members:
            config["network_def"] = {**config["network_def"], "members": members}
        write_config(path, config)

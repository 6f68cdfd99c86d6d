"""Read and write the windows in a bundle's configs: one for each of its networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellseg3d.bundle.assemble import write_config
from cellseg3d.bundle.compose import Config, read_config

# Each of these configs holds the windows; predict reads those of inference.
FILES = ("train", "inference", "evaluate")
# The key of the window of a bundle with one network; members have their names.
OWN = ""
Window = dict[str, Any]


def members_in(config: Config) -> dict[str, Config]:
    """Return the blocks of the networks that a config fuses, by member name."""
    members = config.get("network_def", {}).get("members", {})
    return dict(members) if isinstance(members, Mapping) else {}


def read_windows(folder: Path) -> dict[str, Window]:
    """Return the windows of a run or bundle.

    Parameters
    ----------
    folder : Path
        The folder of the run or bundle.

    Returns
    -------
    dict of str to dict
        The window of each member by its name, or of a single network under ``""``.
    """
    config = read_config(folder / "configs" / "inference.json")
    members = members_in(config)
    if members:
        return {name: dict(block.get("window", {})) for name, block in members.items()}
    return {OWN: dict(config["window"])}


def store_windows(folder: Path, windows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write windows into all configs of a run or bundle that hold windows.

    Parameters
    ----------
    folder : Path
        The folder of the run or bundle.
    windows : mapping of str to mapping
        Windows in the form that `read_windows` returns. Each holds what
        `prediction.lattice.WindowSettings.parse` reads.
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

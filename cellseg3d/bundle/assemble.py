"""Write the committed bundles from configs/, or say where they differ."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from cellseg3d.bundle.compose import (
    Config,
    compose,
    prune,
    read_config,
    unread_keys,
    with_hint,
)
from cellseg3d.bundle.metadata import build_metadata
from cellseg3d.core.atomic import atomic_write
from cellseg3d.core.errors import ConfigError

# Which fragments of common/ each file of a bundle is made of, in order.
PARTS = {
    "train": ("paths", "network", "validate", "train"),
    "inference": ("paths", "network", "infer"),
    "evaluate": ("paths", "network", "validate", "evaluate"),
}
LOGGING = """[loggers]
keys=root

[handlers]
keys=console

[formatters]
keys=line

[logger_root]
level=INFO
handlers=console

[handler_console]
class=StreamHandler
level=INFO
formatter=line
args=(sys.stdout,)

[formatter_line]
format=%(asctime)s %(levelname)s %(name)s: %(message)s
"""


def experiments(configs_dir: Path) -> list[Path]:
    """Return the experiments that become bundles, by name.

    Raises
    ------
    ConfigError
        If the folder holds none.
    """
    found = sorted((configs_dir / "experiment").glob("*.yaml"))
    if not found:
        raise ConfigError(f"{configs_dir}: holds no experiment/*.yaml")
    return found


def bundle_configs(experiment: Path) -> dict[str, Config]:
    """Return the configs of one bundle by file name: train, inference, and so on.

    Each holds only what it reads; a key that none of them reads is refused.

    Parameters
    ----------
    experiment : Path
        ``configs/experiment/NAME.yaml``: name, title, dataset and network, and what
        it sets differently.

    Raises
    ------
    ConfigError
        If a fragment is missing or a key is read by nothing.
    """
    configs_dir = experiment.parents[1]
    choice = read_config(experiment)
    names = {key: choice.pop(key, None) for key in ("name", "title")}
    shared = [
        configs_dir / folder / f"{choice.pop(folder, None)}.yaml"
        for folder in ("dataset", "network")
    ]
    composed: dict[str, Config] = {}
    ignored: list[set[str]] = []
    arguments: set[str] = set()
    note = {"_generated_from_": f"configs/experiment/{experiment.name}"}
    for file, parts in PARTS.items():
        common = [configs_dir / "common" / f"{part}.yaml" for part in parts]
        # The common part stands first: what a network or data set needs wins.
        config = compose([*common, *shared], choice)
        composed[file] = note | prune(config)
        ignored.append(set(unread_keys(config)))
        # Left after pruning: an argument that its target does not take.
        arguments |= set(unread_keys(composed[file]))
    never = sorted(set.intersection(*ignored) | arguments)
    if never:
        message = f"{experiment}: nothing reads {', '.join(map(repr, never))}"
        raise ConfigError(message + with_hint(never[0], composed["train"]))
    base = read_config(configs_dir / "common" / "metadata.yaml")
    train = composed["train"]
    composed["metadata"] = build_metadata(
        base, train["spec"], train["default_facts"], names["name"], names["title"]
    )
    return composed


def bundle_files(experiment: Path) -> Iterator[tuple[str, str]]:
    """Yield path in the bundle and text of every generated file."""
    for name, config in bundle_configs(experiment).items():
        yield f"configs/{name}.json", json.dumps(config, indent=2) + "\n"
    yield "configs/logging.conf", LOGGING


def assemble(configs_dir: Path, bundles_dir: Path) -> list[Path]:
    """Write every bundle; ``docs/README.md`` is a person's and stays.

    Returns
    -------
    list of Path
        The bundles' folders.
    """
    written = []
    for experiment in experiments(configs_dir):
        folder = bundles_dir / experiment.stem
        for name, text in bundle_files(experiment):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, text)
        (folder / "models").mkdir(exist_ok=True)
        _write(folder / "models" / ".gitignore", "*\n!.gitignore\n")
        licence = configs_dir.parent / "LICENSE"
        if licence.is_file():
            shutil.copyfile(licence, folder / "LICENSE")
        written.append(folder)
    return written


def drift(configs_dir: Path, bundles_dir: Path) -> list[str]:
    """Return one line for each file of a bundle that configs/ would write otherwise."""
    lines = []
    for experiment in experiments(configs_dir):
        folder = bundles_dir / experiment.stem
        for name, text in bundle_files(experiment):
            path = folder / name
            if not path.is_file():
                lines.append(f"{path}: is missing")
            elif path.read_text(encoding="utf-8") != text:
                lines.append(f"{path}: differs from configs/")
        others = [folder / name for name in ("docs/README.md", "LICENSE")]
        lines += [f"{path}: is missing" for path in others if not path.is_file()]
    return lines


def write_config(path: Path, config: Config) -> None:
    """Write a config as JSON, atomically."""
    _write(path, json.dumps(config, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    atomic_write(path, lambda new: _write_text(new, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

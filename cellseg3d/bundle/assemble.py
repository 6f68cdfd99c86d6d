"""Write the bundles of a checkout from its configs/, or list where they differ."""

import copy
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cellseg3d.bundle.card import data_license, model_card
from cellseg3d.bundle.compose import (
    Config,
    compose,
    prune,
    read_config,
    unread_keys,
    with_hint,
)
from cellseg3d.bundle.metadata import NOT_STATED, build_metadata
from cellseg3d.bundle.shipped import MODELS, WEIGHTS, weights_file
from cellseg3d.bundle.shipped_record import eval_metrics, headline, read_record
from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import ConfigError
from cellseg3d.models.checkpoint import load_weights

# The fragments of configs/common/ that make up each file of a bundle, in order.
PARTS = {
    "train": ("paths", "network", "validate", "train"),
    "inference": ("paths", "network", "infer"),
    "evaluate": ("paths", "network", "validate", "evaluate"),
}
# Git ignores weights that a user trains inside a bundle's folder.
IGNORE_MODELS = "*\n!.gitignore\n"
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
    """Return the experiments of which bundles are made, sorted by name.

    Raises
    ------
    ConfigError
        If the folder holds no experiment.
    """
    found = sorted((configs_dir / "experiment").glob("*.yaml"))
    if not found:
        message = (
            f"{configs_dir}: holds no experiment/*.yaml; give the configs/ of a "
            "checkout of the repository"
        )
        raise ConfigError(message)
    return found


def bundle_configs(experiment: Path) -> dict[str, Config]:
    """Return the configs of one bundle, by file name such as ``train``.

    Each config holds only the keys that it reads.

    Parameters
    ----------
    experiment : Path
        The file ``configs/experiment/NAME.yaml``. It gives the name, title, dataset and
        network, and the values that differ from the common fragments.

    Raises
    ------
    ConfigError
        If a fragment is missing, or a key is not read by any config.
    """
    configs_dir = experiment.parents[1]
    choice = read_config(experiment)
    names = {key: choice.pop(key, None) for key in ("name", "title")}
    about = choice.pop("about", {})
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
        # The common part comes first, so a network or data set can override it.
        config = compose([*common, *shared], choice)
        composed[file] = note | prune(config)
        ignored.append(set(unread_keys(config)))
        # What pruning leaves are arguments that their targets do not take.
        arguments |= set(unread_keys(composed[file]))
    never = sorted(set.intersection(*ignored) | arguments)
    if never:
        message = f"{experiment}: no config reads {', '.join(map(repr, never))}"
        raise ConfigError(message + with_hint(never[0], composed["train"]))
    base = read_config(configs_dir / "common" / "metadata.yaml")
    train = composed["train"]
    record = read_record(configs_dir.parent, experiment.stem)
    if record is not None:
        base = {**base, **_measured(record, configs_dir)}
        for file in PARTS:
            composed[file] = _with_windows(composed[file], record["window"])
    base = {**base, **{key: about[key] for key in ("references",) if key in about}}
    facts = train["default_facts"] if record is None else record["facts"]
    composed["metadata"] = build_metadata(
        base,
        train["spec"],
        facts,
        names["name"],
        names["title"],
        modality=about.get("modality", NOT_STATED),
    )
    return composed


def _measured(record: Mapping[str, Any], configs_dir: Path) -> Config:
    """Return the metadata about the weights that a bundle holds."""
    data_sets = read_config(configs_dir / "data_sets.yaml")
    used = [data_sets[row["dataset"]] for row in record["data"] if row["training"]]
    version = "0.2.0"
    return {
        "version": version,
        "changelog": {
            version: f"holds weights that were made on {record['made']}",
            "0.1.0": "first version, without weights",
        },
        "data_source": "; ".join(str(known["title"]) for known in used),
        "eval_metrics": eval_metrics(record),
        "score": headline(record),
        "weights_sha256": record["weights"]["sha256"],
        # What was measured about its probabilities; bundle/confidence.py reads it.
        **{key: record[key] for key in ("confidence",) if key in record},
    }


def _with_windows(config: Config, windows: Mapping[str, Mapping[str, Any]]) -> Config:
    """Return a config with the windows that were measured after the training."""
    changed = copy.deepcopy(config)
    for name, window in windows.items():
        if not name and "window" in changed:
            changed["window"] = dict(window)
        elif name:
            changed["network_def"]["members"][name]["window"] = dict(window)
    return changed


def bundle_files(experiment: Path) -> Iterator[tuple[str, str]]:
    """Yield the path in the bundle and the text of every generated file."""
    for name, config in bundle_configs(experiment).items():
        yield f"configs/{name}.json", json.dumps(config, indent=2) + "\n"
    yield "configs/logging.conf", LOGGING
    yield from _card(experiment)


def _card(experiment: Path) -> Iterator[tuple[str, str]]:
    """Yield the model card and the data's licence, if the bundle holds weights."""
    configs_dir = experiment.parents[1]
    record = read_record(configs_dir.parent, experiment.stem)
    if record is None:
        yield "models/.gitignore", IGNORE_MODELS
        return
    choice = read_config(experiment)
    if "about" not in choice:
        message = (
            f"{experiment}: has no 'about', which the card of its weights needs; add "
            "purpose, not_for and expects"
        )
        raise ConfigError(message)
    data_sets = read_config(configs_dir / "data_sets.yaml")
    yield "models/.gitignore", f"{IGNORE_MODELS}!{WEIGHTS}\n"
    card = model_card(
        str(choice["name"]), str(choice["title"]), choice["about"], record, data_sets
    )
    yield "docs/README.md", card
    yield "docs/data_license.txt", data_license(record, data_sets)


def assemble(configs_dir: Path, bundles_dir: Path) -> list[Path]:
    """Write every bundle.

    The card of a bundle without weights is written by a person and not replaced.

    Returns
    -------
    list of Path
        The folders of the bundles.
    """
    written = []
    for experiment in experiments(configs_dir):
        folder = bundles_dir / experiment.stem
        for name, text in bundle_files(experiment):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, text)
        (folder / "models").mkdir(exist_ok=True)
        licence = configs_dir.parent / "LICENSE"
        if licence.is_file():
            shutil.copyfile(licence, folder / "LICENSE")
        written.append(folder)
    return written


def drift(configs_dir: Path, bundles_dir: Path) -> list[str]:
    """Return one line for each file of a bundle that differs from configs/."""
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
        lines += _weights_drift(configs_dir, folder)
    return lines


def _weights_drift(configs_dir: Path, folder: Path) -> list[str]:
    """Return the faults of a bundle whose weights and record do not belong together."""
    record = read_record(configs_dir.parent, folder.name)
    path = weights_file(folder)
    if record is None:
        ignored = folder / MODELS / ".gitignore"
        text = ignored.read_text(encoding="utf-8") if ignored.is_file() else ""
        kept = f"!{WEIGHTS}" in text
        return [f"{path}: has no record of how it was made"] if kept else []
    if not path.is_file():
        return [f"{path}: is missing, but there is a record of its training"]
    found, known = load_weights(path).sha256, record["weights"]["sha256"]
    if found != known:
        return [f"{path}: has sha256 {found}, but its record says {known}"]
    return []


def write_config(path: Path, config: Config) -> None:
    """Write a config as JSON, atomically."""
    _write(path, json.dumps(config, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    write_text(path, text)

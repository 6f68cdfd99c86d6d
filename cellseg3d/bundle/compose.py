"""Merge fragments into one config, apply overrides, and refuse keys nothing reads."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cellseg3d.bundle.trust import refuse_foreign_code
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.mappings import PlainLoader, read_mapping
from cellseg3d.core.words import did_you_mean, nearest, suggestion

Config = dict[str, Any]
SEPARATOR = "::"
# Keys that MONAI itself reads from a config; other keys are read by references.
ROOTS = (
    "_meta_",
    "_generated_from_",
    "bundle_root",
    "dataset_dir",
    "device",
    "evaluating",
    "evaluator",
    "finalize",
    "imports",
    "inferer",
    "inferring",
    "initialize",
    "network_def",
    "run",
    "training",
    "val_interval",
)
SECTIONS = ("train", "validate")


def read_config(path: Path) -> Config:
    """Return the mapping that a JSON or YAML file holds.

    Errors are those of `cellseg3d.core.mappings.read_mapping`.
    """
    return read_mapping(path)


def compose(files: Sequence[Path], last: Mapping[str, Any] | None = None) -> Config:
    """Return the config that some fragments make; a later one overrides earlier ones.

    Mappings merge key by key. Any other value is replaced, and so is a mapping whose
    ``_target_`` changes. A key ``a::b`` sets ``b`` inside ``a``.

    Parameters
    ----------
    files : sequence of Path
        The fragments, in order.
    last : mapping, optional
        Values that override those of all files.

    Raises
    ------
    ConfigError
        If a file is missing or cannot be read.
    """
    config: Config = {}
    for file in files:
        for key, value in read_config(file).items():
            _place(config, key, value, str(file))
    for key, value in (last or {}).items():
        _place(config, key, value, "overrides")
    return config


def override(
    config: Config, settings: Mapping[Any, Any], where: str | Path = "config"
) -> Config:
    """Return a copy of a config with some values replaced.

    Parameters
    ----------
    config : dict
    settings : mapping of str to object
        New values by key, such as ``a::b`` or ``a#b``. A key must be in the config, or
        be a parameter of the ``_target_`` that it is set on.
    where : str or Path
        The config's file, which errors name.

    Raises
    ------
    ConfigError
        If a key is misspelt; names the closest one.
    """
    changed = copy.deepcopy(config)
    for key, value in settings.items():
        if not isinstance(key, str):
            message = f"{where}: the key {key!r} is no text; expected such as a::b"
            raise ConfigError(message)
        names = key.replace("#", SEPARATOR).split(SEPARATOR)
        node: Any = changed
        for depth, name in enumerate(names):
            last = depth == len(names) - 1
            known = _children(node, last=last)
            if name not in known and not (last and _takes_any(node)):
                raise ConfigError(f"{where}: {_unknown(key, name, known, config)}")
            if last:
                node[int(name) if isinstance(node, list) else name] = value
            else:
                node = node[int(name) if isinstance(node, list) else name]
    return changed


def unread_keys(config: Config) -> list[str]:
    """Return the keys of a config that nothing reads.

    They are ids that nothing refers to, and arguments that their target does not take.
    """
    blocks = split_ids(config)
    read = {key for key in ROOTS if key in blocks}
    waiting = list(read)
    while waiting:
        for names in _references(blocks[waiting.pop()]):
            for name in (names[0], SEPARATOR.join(names[:2])):
                if name in blocks and name not in read:
                    read.add(name)
                    waiting.append(name)
    unread = sorted(set(blocks) - read)
    for place, block in components(config, ""):
        known = target_parameters(str(block["_target_"]))
        if known is not None:
            special = {"_target_", "_mode_", "_disabled_", "_requires_", "_desc_"}
            unread += [
                f"{place}{SEPARATOR}{key}"
                for key in block
                if key not in known | special
            ]
    return unread


def prune(config: Config) -> Config:
    """Return a config without the ids that nothing refers to; keep all arguments."""
    ids = split_ids(config)
    dropped = {name for name in unread_keys(config) if name in ids}
    kept: Config = {}
    for key, value in config.items():
        if key in SECTIONS:
            prefix = f"{key}{SEPARATOR}"
            inner = {k: v for k, v in value.items() if prefix + k not in dropped}
            if inner:
                kept[key] = inner
        elif key not in dropped:
            kept[key] = value
    return kept


def check_read(config: Config, where: str) -> None:
    """Refuse a config with keys that nothing reads.

    Raises
    ------
    ConfigError
        If there are such keys. The message names them, and the known key that is most
        like the first.
    """
    unread = unread_keys(config)
    if unread:
        names = ", ".join(map(repr, unread))
        message = f"{where}: nothing reads {names}{with_hint(unread[0], config)}"
        raise ConfigError(message)


def with_hint(key: str, config: Config) -> str:
    """Return ``"; did you mean ...?"`` for a key that nothing in a config reads."""
    name = key.rsplit(SEPARATOR, maxsplit=1)[-1]
    return _hint(name, _words(_all_names(config) - {name}))


def split_ids(config: Config) -> Config:
    """Return what can be referred to, by id: top-level keys and those in sections."""
    ids = {key: value for key, value in config.items() if key not in SECTIONS}
    for section in SECTIONS:
        inner = config.get(section, {})
        ids |= {f"{section}{SEPARATOR}{key}": value for key, value in inner.items()}
    return ids


def target_parameters(target: str) -> set[str] | None:
    """Return the arguments that a ``_target_`` takes by name; None if it takes any.

    Raises
    ------
    ConfigError
        If there is no such class or function.
    """
    from pydoc import locate  # noqa: PLC0415

    # Importing a module runs its code, so only names on the list are looked up.
    refuse_foreign_code({"_target_": target}, "config")
    found = locate(target)
    if found is None or not callable(found):
        message = (
            f"_target_ {target!r} is not a class or function; correct its spelling"
        )
        raise ConfigError(message)
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return set(parameters)


def parse_setting(text: str) -> tuple[str, Any]:
    """Return the key and the value of a text ``key=value``; the value is read as YAML.

    Raises
    ------
    ConfigError
        If there is no ``=``, or the value is not valid YAML.
    """
    key, mark, value = text.partition("=")
    if not mark or not key:
        message = f"`settings` {text!r}: expected KEY=VALUE, such as train::samples=200"
        raise ConfigError(message)
    try:
        return key.strip(), yaml.load(value, Loader=PlainLoader)
    except yaml.YAMLError as error:
        message = f"`settings` {text!r}: {value!r} is not valid YAML; put it in quotes"
        raise ConfigError(message) from error


def _place(config: Config, key: str, value: Any, where: str) -> None:  # noqa: ANN401
    names = key.replace("#", SEPARATOR).split(SEPARATOR)
    node = config
    for name in names[:-1]:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            message = (
                f"{where}: {key!r} cannot be set, because {name!r} is not a mapping; "
                "set it as a whole"
            )
            raise ConfigError(message)
    node[names[-1]] = _merged(node.get(names[-1]), value)


def _merged(old: Any, new: Any) -> Any:  # noqa: ANN401
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return copy.deepcopy(new)
    if "_target_" in new and new["_target_"] != old.get("_target_", new["_target_"]):
        return copy.deepcopy(new)
    keys = [*old, *(key for key in new if key not in old)]
    return {
        key: _merged(old.get(key), new[key]) if key in new else old[key] for key in keys
    }


def _children(node: Any, *, last: bool) -> set[str]:  # noqa: ANN401
    if isinstance(node, list):
        return {str(index) for index in range(len(node))}
    if not isinstance(node, dict):
        return set()
    names = set(map(str, node))
    if last and "_target_" in node:
        names |= target_parameters(str(node["_target_"])) or set()
    return names


def _takes_any(node: Any) -> bool:  # noqa: ANN401
    """Return whether a block has a target that takes any arguments."""
    target = node.get("_target_") if isinstance(node, dict) else None
    return target is not None and target_parameters(str(target)) is None


def _references(value: Any) -> Iterator[list[str]]:  # noqa: ANN401
    """Yield the ids that a value refers to by ``@id`` or ``%id``, split into parts."""
    from monai.bundle.reference_resolver import ReferenceResolver  # noqa: PLC0415

    if isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str):
        text = value.replace("%", "@") if value.startswith("%") else value
        for name in ReferenceResolver.match_refs_pattern(text):
            yield name.split(SEPARATOR)


def components(value: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401
    """Yield the place of each block with a ``_target_`` in a config, and the block."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield place, value
        items: Iterator[tuple[str, Any]] = ((str(k), v) for k, v in value.items())
    elif isinstance(value, list):
        items = ((str(i), v) for i, v in enumerate(value))
    else:
        return
    for key, item in items:
        yield from components(item, f"{place}{SEPARATOR}{key}" if place else key)


def _all_names(config: Any) -> set[str]:  # noqa: ANN401
    if isinstance(config, Mapping):
        names = {str(key) for key in config}
        if "_target_" in config:
            names |= target_parameters(str(config["_target_"])) or set()
        return names.union(*map(_all_names, config.values())) if config else names
    if isinstance(config, list):
        return set().union(*map(_all_names, config)) if config else set()
    return set()


def _unknown(key: str, name: str, known: set[str], config: Config) -> str:
    near = nearest(name, _words(known))
    if near is not None:
        return f"{key!r}: nothing reads it{did_you_mean(key.replace(name, near))}"
    return (
        f"{key!r}: nothing reads it{_hint(name, _words(known or _all_names(config)))}"
    )


def _hint(name: str, words: Sequence[str]) -> str:
    """Return a suggestion; where none is similar, it lists the first dozen words."""
    near = nearest(name, words)
    return suggestion(name, words[:12]) if near is None else did_you_mean(near)


def _words(names: set[str]) -> list[str]:
    return sorted(names - {"_target_"})

"""Resolve the config of a bundle or run: read it, apply overrides, check its names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

from cellseg3d.bundle.arguments import check_arguments
from cellseg3d.bundle.compose import Config, compose, override
from cellseg3d.bundle.names import MODEL_NAMES
from cellseg3d.bundle.trust import refuse_foreign_code
from cellseg3d.core.errors import CellSegError, ConfigError
from cellseg3d.core.old_names import current_name

_DEEPEST = 50
# References to references multiply, so a few lines could fill the memory.
_MOST_VALUES = 100_000


def resolve_config(
    file: Path,
    settings: Mapping[str, Any] | None = None,
    *,
    only: Sequence[str] = (),
) -> Config:
    """Return a config with its overrides, after a check of every name in it.

    Every command that builds something from a config reads it here. What is returned
    is checked once, without importing anything.

    Parameters
    ----------
    file : Path
        A JSON or YAML file, such as ``configs/train.json`` of a bundle or run.
    settings : mapping of str to object, optional
        Keys and their new values, as `cellseg3d.bundle.compose.override` takes them.
    only : sequence of str
        Blocks to return. Their references are replaced by the values that they refer
        to, expressions are refused, and they may only name what describes a model.
        When empty, the whole config is returned with its references.

    Raises
    ------
    ConfigError
        If the file cannot be read, a setting is misspelt, a block is missing or
        refers to nothing or to itself, or the config names what is not on the list.
    """
    config = override(compose([file]), settings or {}, file)
    if not only:
        refuse_foreign_code(config, file)
        return config
    blocks = _Plain(config, file).blocks(only)
    refuse_foreign_code(blocks, file, MODEL_NAMES)
    return blocks


def resolve_in_place(file: Path, settings: Mapping[str, Any] | None = None) -> Config:
    """Return a config that can run, with the folder of its bundle as ``bundle_root``.

    Parameters
    ----------
    file, settings
        As for `resolve_config`. A ``bundle_root`` that they give as text is kept.

    Raises
    ------
    ConfigError
        As for `resolve_config`, and if a class or function gets a value of another
        type than it takes, such as null for a number.
    """
    config = resolve_config(file, settings)
    check_arguments(config, file)
    if not isinstance(config.get("bundle_root"), str):
        config["bundle_root"] = str(file.resolve().parent.parent)
    return config


class _Plain:
    """Replace references by what they refer to, and refuse expressions."""

    def __init__(self, config: Config, where: str | Path) -> None:
        self.config, self.where, self.count = config, where, 0

    def blocks(self, names: Sequence[str]) -> Config:
        for name in names:
            if name not in self.config:
                message = f"{self.where}: {name!r} is missing; copy it from the"
                raise ConfigError(f"{message} author's bundle again")
        return {name: self.value(self.config[name], 0) for name in names}

    def value(self, value: Any, depth: int) -> Any:  # noqa: ANN401
        self.count += 1
        if depth > _DEEPEST or self.count > _MOST_VALUES:
            message = (
                f"{self.where}: refers to itself, is nested more than {_DEEPEST} deep, "
                f"or has more than {_MOST_VALUES} values; write out the values that @ "
                "refers to"
            )
            raise ConfigError(message)
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        if isinstance(value, Mapping):
            return {key: self.value(item, depth + 1) for key, item in value.items()}
        return self.text(value, depth) if isinstance(value, str) else value

    def text(self, text: str, depth: int) -> Any:  # noqa: ANN401
        if text.startswith(("$", "%")):
            message = (
                f"{self.where}: the expression {text!r} is not run; write out its value"
            )
            raise ConfigError(message)
        if not text.startswith("@"):
            return text
        node: Any = self.config
        for name in text[1:].replace("#", "::").split("::"):
            if not isinstance(node, Mapping) or name not in node:
                message = f"{self.where}: {text!r} refers to nothing"
                raise ConfigError(f"{message}; write out its value")
            node = node[name]
        return self.value(node, depth + 1)


def build(value: Any, where: str | Path) -> Any:  # noqa: ANN401
    """Return what a resolved block builds; parts with a ``_target_`` are built first.

    Parameters
    ----------
    value : object
        A block that `resolve_config` returned with `only`.
    where : str or Path
        The file, which errors name.

    Raises
    ------
    ConfigError
        If a part cannot be built.
    """
    if isinstance(value, list):
        return [build(item, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {k: build(v, where) for k, v in value.items() if k != "_target_"}
    if "_target_" not in value:
        return arguments
    target = current_name(value["_target_"])
    try:
        found: Any = locate(target)
        # If there is no such name, calling None raises a TypeError that says so.
        return found(**arguments)
    except (CellSegError, MemoryError):
        raise
    except Exception as error:
        # A network that gets unsuitable numbers may raise any kind of error.
        raise ConfigError(f"{where}: {target}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type if it has no text."""
    words = str(error).strip()
    first = words.splitlines()[0] if words else ""
    if isinstance(error, TypeError | ValueError) and first:
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__

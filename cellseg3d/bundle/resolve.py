"""Read one id of a config as plain values, checked before anything is built of it."""

from collections.abc import Mapping
from pathlib import Path
from pydoc import locate
from typing import Any

from cellseg3d.bundle.compose import Config
from cellseg3d.bundle.names import MODEL_NAMES
from cellseg3d.bundle.trust import refuse_foreign_code
from cellseg3d.core.errors import CellSegError, ConfigError
from cellseg3d.core.old_names import current_name

_DEEPEST = 50
# References to references can multiply: a few lines would fill the memory.
_MOST_VALUES = 100_000


def build(config: Config, key: str, where: str | Path) -> Any:  # noqa: ANN401
    """Return what one id of a config describes; only `MODEL_NAMES` are built.

    References are put in place first; then names, arguments and texts are checked;
    then the blocks are built. Nothing is imported before the check.

    Parameters
    ----------
    config : dict
    key : str
        Such as ``"network_def"``.
    where : str or Path
        The file, for messages.

    Raises
    ------
    ConfigError
        If there is no such id, if it refers to nothing or to itself, holds an
        expression, names something that is not on the list, or cannot be built.
    """
    if key not in config:
        message = f"{where}: {key!r} is missing; copy it from the author's bundle again"
        raise ConfigError(message)
    plain = _Plain(config, where).value(config[key], 0)
    refuse_foreign_code({key: plain}, where, MODEL_NAMES)
    return _built(plain, where)


class _Plain:
    """Put references in place; refuse expressions."""

    def __init__(self, config: Config, where: str | Path) -> None:
        self.config, self.where, self.count = config, where, 0

    def value(self, value: Any, depth: int) -> Any:  # noqa: ANN401
        self.count += 1
        if depth > _DEEPEST or self.count > _MOST_VALUES:
            message = (
                f"{self.where}: refers to itself, or is nested more than {_DEEPEST} "
                f"deep or of more than {_MOST_VALUES} values; write out what @ stands "
                "for"
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


def _built(value: Any, where: str | Path) -> Any:  # noqa: ANN401
    """Return plain values with every block that has a ``_target_`` built."""
    if isinstance(value, list):
        return [_built(item, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {k: _built(v, where) for k, v in value.items() if k != "_target_"}
    if "_target_" not in value:
        return arguments
    target = current_name(value["_target_"])
    try:
        found: Any = locate(target)
        # Calling None, where there is no such name, is an error with words, too.
        return found(**arguments)
    except (CellSegError, MemoryError):
        raise
    except Exception as error:
        # Numbers that a network cannot be built with can raise any kind of error.
        raise ConfigError(f"{where}: {target}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """Return the first line of an error's words, or its kind when it has none."""
    words = str(error).strip()
    first = words.splitlines()[0] if words else ""
    if isinstance(error, TypeError | ValueError) and first:
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__

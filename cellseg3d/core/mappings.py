"""Read a mapping from a JSON or YAML file that may be damaged or hostile."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cellseg3d.core.errors import ConfigError

MOST_BYTES = 64_000_000


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON or YAML file.

    A byte order mark, as some editors write it, does not matter.

    Raises
    ------
    ConfigError
        If the file is missing, no regular file, too large, cannot be parsed, holds no
        mapping, a key twice, or aliases (which can grow without bound).
    """
    try:
        # A pipe or a device could be read for ever.
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is no regular file; give a JSON or YAML file")
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            size = path.stat().st_size
            message = f"{path}: holds {size} bytes; expected at most {MOST_BYTES}"
            raise ConfigError(message)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    return parse_mapping(text, path)


def parse_mapping(text: str, path: Path) -> dict[str, Any]:
    """Return the mapping in a text: JSON if `path` says so, else YAML.

    Raises
    ------
    ConfigError
        As for `read_mapping`.
    """
    try:
        if path.suffix.lower() == ".json":
            values = json.loads(text, object_pairs_hook=_unique)
        else:
            values = yaml.load(text, Loader=PlainLoader)
    # Numbers of thousands of digits, dates of the year 0 and the like are ValueErrors.
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise ConfigError(f"{path}: is not valid JSON or YAML ({cause})") from error
    if not isinstance(values, dict):
        message = f"{path}: holds a {type(values).__name__}; expected a mapping"
        raise ConfigError(message)
    return values


class PlainLoader(yaml.SafeLoader):
    """YAML without aliases, and with every key once."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401
        """Refuse aliases."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
        """Refuse keys that stand twice."""
        pairs = [(self.construct_object(key, deep=True), None) for key, _ in node.value]
        _unique(pairs)
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 1e-3 for a word; people mean a number.
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _unique(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key, value in pairs:
        if key in result:
            raise yaml.YAMLError(f"the key {key!r} stands twice")
        result[key] = value
    return result

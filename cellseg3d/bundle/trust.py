"""Refuse a config that could run code: names and expressions from a short list."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cellseg3d.bundle.compose import read_config
from cellseg3d.core.errors import ConfigError

# What a config of ours may build.
TRUSTED = ("cellseg3d.", "monai.", "torch.", "ignite.")
# Inside them, names that read pickles, run configs or start programs.
_NEVER = ("monai.bundle", "torch.load", "torch.hub", "torch.package", "torch.jit")
_CALLS = ("parameters", "run", "set_determinism")
_REFERENCE = re.compile(r"@[\w:#]+")
_NODES = (
    ast.Expression,
    ast.Attribute,
    ast.BinOp,
    ast.Add,
    ast.Name,
    ast.Constant,
    ast.Call,
    ast.keyword,
    ast.Load,
)


def refuse_foreign_code(config: Path) -> None:
    """Refuse a config that names or evaluates what no bundle of ours needs.

    A ``_target_`` must lie in cellseg3d, MONAI, torch or Ignite, without detours
    through what these import. An expression may join references by ``+``, read a
    public attribute, and call ``parameters``, ``run`` or ``set_determinism``.

    Parameters
    ----------
    config : Path
        JSON or YAML.

    Raises
    ------
    ConfigError
        Names the target or the expression.
    """
    way_out = "; nothing was run; foreign bundles run with python -m monai.bundle alone"
    for key, text in _strings(read_config(config)):
        if key == "_target_" and not _known(text):
            message = f"{config}: _target_ {text!r} is not among {', '.join(TRUSTED)}"
            raise ConfigError(message + way_out)
        if text.startswith("$") and not plain_expression(text[1:]):
            message = f"{config}: the expression {text!r} does more than join and read"
            raise ConfigError(message + way_out)
        if text.startswith("%") and "." in text:
            message = f"{config}: the macro {text!r} reads another file"
            raise ConfigError(message + way_out)


def plain_expression(text: str) -> bool:
    """Whether an expression only joins, reads public attributes and calls a few."""
    try:
        tree = ast.parse(_REFERENCE.sub("reference", text), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    return all(_plain(node) for node in ast.walk(tree))


def _plain(node: ast.AST) -> bool:
    if not isinstance(node, _NODES):
        return False
    if isinstance(node, ast.Attribute):
        return not node.attr.startswith("_")
    if isinstance(node, ast.Name):
        return node.id in ("reference", "monai")
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in _CALLS
    return True


def _known(target: str) -> bool:
    parts = target.split(".")
    if not target.startswith(TRUSTED) or target.startswith(_NEVER):
        return False
    # `monai.data.utils.os.system` is no name of MONAI's.
    foreign = {"os", "sys", "subprocess", "shutil", "pickle", "builtins", "importlib"}
    return foreign.isdisjoint(parts) and not any(p.startswith("_") for p in parts)


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _strings(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
    elif isinstance(value, str):
        yield key, value

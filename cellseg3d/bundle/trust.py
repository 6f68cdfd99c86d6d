"""Refuse configs that could run foreign code.

A config may name the classes and functions on a list, and hold expressions of a small
grammar.
"""

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from cellseg3d.bundle.names import CONFIG_NAMES, NETWORK_NAMES
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.old_names import current_name
from cellseg3d.models.network_arguments import NETWORK_ARGUMENTS

# Keys whose text MONAI takes as the name of a class.
_NAMING = ("_target_", "reader", "writer")
# The attributes of a reference that an expression may read, and what it may call.
_ATTRIBUTES = (
    "channels",
    "classes",
    "module",
    "resampled_um",
    "spacing_um",
    "training",
    "validation",
)
_CALLS = ("network.parameters()", "evaluator.run()")
_SEED = "monai.utils.set_determinism(seed=reference_seed)"
_REFERENCE = re.compile(r"@([\w:#]+)")
# Names of arguments with which a network's constructor may fetch or open files.
FETCHES = re.compile(r"(^|_)(pretrained|url|download|cache_dir)(_|$)")
# Keys of a block that MONAI reads itself; they are not arguments.
_SPECIAL = {"_target_", "_mode_", "_disabled_", "_requires_", "_desc_"}
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# Names that the user allows beyond the list. They are not passed as parameters, because
# a training checks its config in many places.
_TRUSTED: ContextVar[tuple[str, ...]] = ContextVar("trusted", default=())


@contextmanager
def trusting(names: Sequence[str]) -> Iterator[None]:
    """Let configs name further classes and functions while the block runs.

    Parameters
    ----------
    names : sequence of str
        Full dotted names, such as ``"mylab.losses.Clever"``. Only exactly these names
        are allowed.

    Raises
    ------
    ConfigError
        If a name has no dots.
    """
    for name in names:
        if not _DOTTED.fullmatch(name):
            message = (
                f"`trust` {name!r} is not a dotted name; give the full name that the "
                "config holds, such as mylab.losses.Clever"
            )
            raise ConfigError(message)
    token = _TRUSTED.set((*_TRUSTED.get(), *names))
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def trusted_names() -> list[str]:
    """Return the names that the user allows beyond the list, sorted."""
    return sorted(set(_TRUSTED.get()))


def refuse_foreign_code(
    config: Mapping[str, Any],
    where: str | Path,
    names: Collection[str] = CONFIG_NAMES,
) -> None:
    """Refuse a config that names code, or holds an expression, that is not allowed.

    The check imports nothing. A key such as ``loss::_target_`` is read as MONAI splits
    it. An expression may join references and text by ``+``, read one of a few
    attributes, call ``@network.parameters()`` or ``@evaluator.run()``, and set the
    seed.

    Parameters
    ----------
    config : mapping
        The config with its overrides, or the overrides alone.
    where : str or Path
        The file, which errors name.
    names : collection of str
        The classes and functions that may be named. Those of `trusting` may be too.

    Raises
    ------
    ConfigError
        If something is not allowed. The message names the target, the argument or the
        expression.
    """
    for key, value in _entries(config):
        fault = _fault(key, value, names)
        if fault is not None:
            raise ConfigError(f"{where}: {fault}")


def plain_expression(text: str) -> bool:
    """Return whether configs may hold an expression, given without its ``$``."""
    named = _REFERENCE.sub(lambda found: f"reference_{_last(found[1])}", text)
    try:
        tree = ast.parse(named, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return ast.unparse(tree) == _SEED or _plain(tree)


def _plain(node: ast.AST) -> bool:
    """Return whether a node of an expression is of an allowed kind.

    It may be a constant, a reference, an attribute of one, a sum, or a known call.
    """
    if isinstance(node, ast.BinOp):
        joins = isinstance(node.op, ast.Add)
        return joins and _plain(node.left) and _plain(node.right)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | int | float)
    if isinstance(node, ast.Name):
        return node.id.startswith("reference_")
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and (
            node.attr in _ATTRIBUTES and _plain(node.value)
        )
    calls = [f"reference_{call}" for call in _CALLS]
    return isinstance(node, ast.Call) and ast.unparse(node) in calls


def _fault(key: str, value: Any, names: Collection[str]) -> str | None:  # noqa: ANN401
    """Return what is wrong with one entry of a config; None if it is allowed."""
    fault = _fault_of_value(key, value)
    if fault is not None:
        return (
            f"{fault}; nothing was run; if you trust the author, run the bundle with "
            "python -m monai.bundle, which does not check configs"
        )
    return _fault_of_name(key, value, names) if isinstance(value, str) else None


def _fault_of_value(key: str, value: Any) -> str | None:  # noqa: ANN401
    if key == "_mode_" and value != "default":
        return f"_mode_ {value!r} does not build an object; leave it out"
    # Weights to start from are a file of the user's, which is not a download.
    is_file = key == "pretrained" and isinstance(value, str) and "://" not in value
    if FETCHES.search(key) and value not in (None, False) and not is_file:
        return f"the argument {key}={value!r} may fetch files; leave it out"
    if isinstance(value, str):
        return _fault_of_text(value)
    if isinstance(value, Mapping):
        return _fault_of_network(value)
    return f"_target_ {value!r} is not a name" if key == "_target_" else None


def _fault_of_name(key: str, text: str, names: Collection[str]) -> str | None:
    refers = text.startswith("@") and key != "_target_"
    known = current_name(text) in names or text in _TRUSTED.get()
    if key not in _NAMING or refers or known:
        return None
    message = f"{key} {text!r} is not one of the names that a config may use"
    if not _DOTTED.fullmatch(text):
        return f"{message}; nothing was run"
    return (
        f"{message}; nothing was run; if you trust its author, allow it with `trust` "
        f"{text} in train, tune, preview or predict"
    )


def _fault_of_network(block: Mapping[str, Any]) -> str | None:
    """Return a fault if a block gives one of MONAI's networks an unknown argument."""
    target = block.get("_target_")
    if not isinstance(target, str) or target not in NETWORK_NAMES:
        return None
    allowed = NETWORK_ARGUMENTS[_last(target.replace(".", "::"))] | _SPECIAL
    other = sorted(str(key) for key in block if key not in allowed)
    if not other:
        return None
    return (
        f"{target}: a config may not give the argument {other[0]!r}; expected some of "
        f"{', '.join(sorted(allowed - _SPECIAL))}"
    )


def _fault_of_text(text: str) -> str | None:
    if text.startswith("$") and not plain_expression(text[1:]):
        return f"the expression {text!r} does more than join texts and read values"
    if text.startswith("%") and "." in text:
        return f"the macro {text!r} reads another file"
    return None


def _entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield every value with the last part of its key; items have their list's key."""
    if key:
        yield key, value
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _entries(item, _last(str(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _entries(item, key)


def _last(key: str) -> str:
    return key.replace("#", "::").rsplit("::", maxsplit=1)[-1]

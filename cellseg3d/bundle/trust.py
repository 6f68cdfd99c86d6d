"""Refuse a config that could run code: exact names and a small grammar, no others."""

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

# Keys whose text MONAI takes for the name of a class, too.
_NAMING = ("_target_", "reader", "writer")
# What an expression may read of a reference, and call of one.
_ATTRIBUTES = (
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
# Arguments by which a network's constructor would fetch or open files.
FETCHES = re.compile(r"(^|_)(pretrained|url|download|cache_dir)(_|$)")
# Keys of a block that are MONAI's own, not arguments.
_SPECIAL = {"_target_", "_mode_", "_disabled_", "_requires_", "_desc_"}
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# Names beyond the list that the user lets through. A training checks its config at
# many places, so they stand here and not among the parameters of each.
_TRUSTED: ContextVar[tuple[str, ...]] = ContextVar("trusted", default=())


@contextmanager
def trusting(names: Sequence[str]) -> Iterator[None]:
    """Let configs name these classes and functions, too, while the block runs.

    Parameters
    ----------
    names : sequence of str
        Full dotted names, such as ``"mylab.losses.Clever"``; exactly these.

    Raises
    ------
    ConfigError
        If one is no dotted name.
    """
    for name in names:
        if not _DOTTED.fullmatch(name):
            message = (
                f"trust: {name!r} is no dotted name; give the full name that the "
                "config holds, such as mylab.losses.Clever"
            )
            raise ConfigError(message)
    token = _TRUSTED.set((*_TRUSTED.get(), *names))
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def trusted_names() -> list[str]:
    """Return the names that the user lets through, sorted."""
    return sorted(set(_TRUSTED.get()))


def refuse_foreign_code(
    config: Mapping[str, Any],
    where: str | Path,
    names: Collection[str] = CONFIG_NAMES,
) -> None:
    """Refuse a config that names or evaluates what no bundle of ours needs.

    Nothing is imported. Keys such as ``loss::_target_`` count as MONAI splits them.
    An expression may join references and text by ``+``, read one of a few attributes,
    take ``@network.parameters()``, run ``@evaluator.run()`` and set the seed.

    Parameters
    ----------
    config : mapping
        What is to be built: with overrides and plans in place, or these alone.
    where : str or Path
        The file, for messages.
    names : collection of str
        The classes and functions that may be named, beside those of `trusting`.

    Raises
    ------
    ConfigError
        Names the target, the argument or the expression.
    """
    for key, value in _entries(config):
        fault = _fault(key, value, names)
        if fault is not None:
            raise ConfigError(f"{where}: {fault}")


def plain_expression(text: str) -> bool:
    """Whether an expression (without its ``$``) is one that configs may hold."""
    named = _REFERENCE.sub(lambda found: f"reference_{_last(found[1])}", text)
    try:
        tree = ast.parse(named, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return ast.unparse(tree) == _SEED or _plain(tree)


def _plain(node: ast.AST) -> bool:
    """Whether a node joins, names a reference, reads of it, or is a known call."""
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
    """Return what is wrong with one entry of a config; None when it is harmless."""
    fault = _fault_of_value(key, value)
    if fault is not None:
        return (
            f"{fault}; nothing was run; if you trust the author, run it with python -m "
            "monai.bundle, which checks nothing"
        )
    return _fault_of_name(key, value, names) if isinstance(value, str) else None


def _fault_of_value(key: str, value: Any) -> str | None:  # noqa: ANN401
    if key == "_mode_" and value != "default":
        return f"_mode_ {value!r} does something else than build; leave it out"
    # Weights to begin with, a file of the user's, are no download.
    is_file = key == "pretrained" and isinstance(value, str) and "://" not in value
    if FETCHES.search(key) and value not in (None, False) and not is_file:
        return f"the argument {key}={value!r} fetches files; leave it out"
    if isinstance(value, str):
        return _fault_of_text(value)
    if isinstance(value, Mapping):
        return _fault_of_network(value)
    return f"_target_ {value!r} is no name" if key == "_target_" else None


def _fault_of_name(key: str, text: str, names: Collection[str]) -> str | None:
    refers = text.startswith("@") and key != "_target_"
    known = current_name(text) in names or text in _TRUSTED.get()
    if key not in _NAMING or refers or known:
        return None
    message = f"{key} {text!r} is not among the names that a config may use"
    if not _DOTTED.fullmatch(text):
        return f"{message}; nothing was run"
    return (
        f"{message}; nothing was run; if you trust its author, --trust {text} (of "
        "train, tune, preview and predict) lets it through"
    )


def _fault_of_network(block: Mapping[str, Any]) -> str | None:
    """Return which argument of a network of MONAI's a config may not give."""
    target = block.get("_target_")
    if not isinstance(target, str) or target not in NETWORK_NAMES:
        return None
    allowed = NETWORK_ARGUMENTS[_last(target.replace(".", "::"))] | _SPECIAL
    other = sorted(str(key) for key in block if key not in allowed)
    if not other:
        return None
    return (
        f"{target}: the argument {other[0]!r} is not among those that a config may "
        f"give: {', '.join(sorted(allowed - _SPECIAL))}"
    )


def _fault_of_text(text: str) -> str | None:
    if text.startswith("$") and not plain_expression(text[1:]):
        return f"the expression {text!r} does more than join and read"
    if text.startswith("%") and "." in text:
        return f"the macro {text!r} reads another file"
    return None


def _entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Yield every value with the last part of its key; those of lists under theirs."""
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

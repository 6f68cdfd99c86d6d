"""Compare the values in a config with the types that its classes and functions take."""

import math
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from inspect import Parameter, signature
from pydoc import locate
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cellseg3d.bundle.compose import Config, components
from cellseg3d.core.errors import ConfigError
from cellseg3d.core.old_names import current_name

# Stands for what only running the config can tell.
_UNKNOWN: Any = object()
# References that refer to references end after so many.
_DEEPEST = 50
_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}
# Modules whose annotations say what their classes take, also of objects.
_EXACT = ("cellseg3d.", "monai.engines.")


def check_arguments(config: Config, where: object) -> None:
    """Refuse a config that gives a class or function a value of another type.

    A value that is written out is compared with the annotation of its argument, and so
    is one that a reference leads to. Objects and the results of expressions are not
    known before the config runs. Every name in the config must be checked before,
    because its module is imported.

    Parameters
    ----------
    config : dict
    where : object
        The config's file, which errors name.

    Raises
    ------
    ConfigError
        With the key, its value and what the argument takes.
    """
    for place, block in components(config, ""):
        target = current_name(str(block["_target_"]))
        exact = target.startswith(_EXACT)
        for name, hint in _hints(target).items():
            value = _followed(block[name], config) if name in block else _UNKNOWN
            if value is not _UNKNOWN and not _fits(value, hint, config, exact=exact):
                key = f"{place}::{name}" if place else name
                odd = _narrowed(key, value, hint, config, exact=exact)
                raise _wrong(where, odd, block[name])


def _wrong(where: object, odd: tuple[str, Any, Any], given: object) -> ConfigError:
    key, value, hint = odd
    leads = isinstance(given, str) and value != given
    said = f", from {given}" if leads else ""
    return ConfigError(
        f"{where}: {key} is {_short(value)}{said}; expected {_expected(hint)}"
    )


def check_does_something(config: Config, key: str, where: object) -> None:
    """Refuse a config in which a list of steps holds no step.

    Parameters
    ----------
    config : dict
    key : str
        The list, such as ``"run"``; it may be a copy (``%``) of another.
    where : object
        The config's file, which errors name.

    Raises
    ------
    ConfigError
        If the key is there and holds no expression and no ``_target_``.
    """
    value = config.get(key)
    if isinstance(value, str) and value[:1] in ("%", "@"):
        value = config.get(value[1:])
    if key in config and not _steps(value):
        raise ConfigError(
            f"{where}: {key} is {_short(value)}, which does nothing; expected steps, "
            "each an expression or an entry with a _target_"
        )


def _steps(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, list):
        return any(map(_steps, value))
    if isinstance(value, Mapping):
        return "_target_" in value
    return isinstance(value, str) and value[:1] in ("$", "@", "%")


@lru_cache(maxsize=256)
def _hints(target: str) -> dict[str, Any]:
    """Return the types of the arguments of a class or function; none where unknown."""
    found: Any = locate(target)
    try:
        holder = getattr(found, "__init__", found) if isinstance(found, type) else found
        hints = get_type_hints(holder)
        parameters = signature(found).parameters
    except (AttributeError, NameError, TypeError, ValueError):
        return {}
    return {
        name: hints[name] | None if parameter.default is None else hints[name]
        for name, parameter in parameters.items()
        if name in hints
        and parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        and not isinstance(hints[name], str)
    }


def _followed(value: Any, config: Config) -> Any:  # noqa: ANN401
    """Return what a value stands for, or `_UNKNOWN` before the config runs."""
    for _ in range(_DEEPEST):
        if isinstance(value, Mapping) and "_target_" in value:
            return _UNKNOWN
        if not isinstance(value, str) or not value.startswith(("@", "$", "%")):
            return value
        if not value.startswith("@"):
            return _UNKNOWN
        node: Any = config
        for name in value[1:].replace("#", "::").split("::"):
            if not isinstance(node, Mapping) or name not in node:
                return _UNKNOWN
            node = node[name]
        value = node
    return _UNKNOWN


def _fits(value: Any, hint: Any, config: Config, *, exact: bool) -> bool:  # noqa: ANN401, PLR0911
    """Return whether a value that is written out may be of a type."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or hint is object or isinstance(hint, TypeVar):
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, each, config, exact=exact) for each in inner)
    if origin is Literal:
        return value in inner
    kind = origin or hint
    if not isinstance(kind, type):
        return True  # a form of annotation that is not known here
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        number = isinstance(value, float) and not math.isnan(value)
        return whole or (kind is float and number)
    if kind in (bool, str, type(None)):
        return isinstance(value, kind)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and all(
            _item_fits(each, inner[-1:], config, exact=exact) for each in value.values()
        )
    if issubclass(kind, Iterable) and kind.__module__ in (
        "builtins",
        "collections.abc",
    ):
        return isinstance(value, list | tuple) and all(
            _item_fits(each, inner[:1], config, exact=exact) for each in value
        )
    if exact:
        return isinstance(value, str) and _of_text(kind)
    # Other packages make objects such as devices of texts, but no tensors.
    return kind.__name__ != "Tensor" and isinstance(value, str | list | Mapping)


def _item_fits(
    item: Any,  # noqa: ANN401
    hint: Sequence[Any],
    config: Config,
    *,
    exact: bool,
) -> bool:
    found = _followed(item, config)
    if found is _UNKNOWN or not hint:
        return True
    return _fits(found, hint[0], config, exact=exact)


def _narrowed(
    key: str,
    value: Any,  # noqa: ANN401
    hint: Any,  # noqa: ANN401
    config: Config,
    *,
    exact: bool,
) -> tuple[str, Any, Any]:
    """Return the first item of a list or mapping that does not fit, if it is one."""
    inner = get_args(hint)[-1:]
    if get_origin(hint) in (Union, types.UnionType) or not inner:
        return key, value, hint
    listed = dict(enumerate(value)) if isinstance(value, list) else value
    for name, item in listed.items() if isinstance(listed, Mapping) else ():
        if not _item_fits(item, inner, config, exact=exact):
            return f"{key}::{name}", _followed(item, config), inner[0]
    return key, value, hint


def _of_text(kind: type) -> bool:
    """Return whether a class, such as a path, is written as text."""
    return hasattr(kind, "__fspath__")


def _short(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _expected(hint: Any) -> str:  # noqa: ANN401, PLR0911
    """Return a type in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_expected, inner)))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    kind = origin or hint
    if kind in _WORDS:
        return _WORDS[kind]
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping"
    if isinstance(kind, type) and kind.__module__ in ("builtins", "collections.abc"):
        called = not issubclass(kind, Iterable)
        return "an entry with a _target_" if called else "a list"
    if isinstance(kind, type) and _of_text(kind):
        return "text"
    name = getattr(kind, "__name__", str(kind))
    return f"an entry that makes one {name}, such as a reference @KEY"

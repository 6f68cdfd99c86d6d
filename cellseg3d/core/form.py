"""Check that values from a JSON or YAML file have the form that a reader expects."""

import math
from collections.abc import Mapping
from typing import Any

from cellseg3d.core.errors import ConfigError

# Stands for every key of a mapping whose keys are names of the user's.
ANY = "*"
_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    None: "null",
    object: "anything",
}


def check_form(value: Any, form: Any, where: str) -> None:  # noqa: ANN401
    """Refuse a value that has another form than a reader expects.

    Parameters
    ----------
    value : object
        What was read.
    form : object
        A type (``float`` allows whole numbers, ``object`` everything); a list with the
        form of its items; a tuple of alternatives; or a mapping of keys to forms, in
        which a key that ends in ``?`` may be missing, and the key ``ANY`` stands for
        all others. Keys that the form does not name are not looked at.
    where : str
        The file; the error begins with it.

    Raises
    ------
    ConfigError
        If the form differs. The message names the place, what was found and what was
        expected.

    Examples
    --------
    >>> check_form({"name": "a", "seeds": [0, 1]}, {"name": str, "seeds": [int]}, "f")
    >>> check_form({"name": 3}, {"name": str}, "study.yaml")
    Traceback (most recent call last):
    ...
    cellseg3d.core.errors.ConfigError: study.yaml: name is 3; expected text
    """
    _check(value, form, where, "")


def _check(value: Any, form: Any, where: str, place: str) -> None:  # noqa: ANN401
    if isinstance(form, tuple):
        if not any(_fits(value, each) for each in form):
            raise _wrong(value, form, where, place)
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise _wrong(value, form, where, place)
        for number, item in enumerate(value):
            _check(item, form[0], where, f"{place}[{number}]")
    elif isinstance(form, Mapping):
        _check_keys(value, form, where, place)
    elif not _is_a(value, form):
        raise _wrong(value, form, where, place)


def _check_keys(
    value: Any,  # noqa: ANN401
    form: Mapping[str, Any],
    where: str,
    place: str,
) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(value, dict, where, place)
    for key, inner in form.items():
        name = key.removesuffix("?")
        if key == ANY:
            known = {each.removesuffix("?") for each in form}
            for other in value:
                if other not in known:
                    _check(value[other], inner, where, _inside(place, other))
        elif name in value:
            _check(value[name], inner, where, _inside(place, name))
        elif name == key:
            message = f"{where}: {_inside(place, name)} is missing; copy the file again"
            raise ConfigError(message)


def _inside(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _fits(value: Any, form: Any) -> bool:  # noqa: ANN401
    try:
        _check(value, form, "", "")
    except ConfigError:
        return False
    return True


def _is_a(value: Any, kind: Any) -> bool:  # noqa: ANN401
    if kind is float:
        whole = isinstance(value, int) and not isinstance(value, bool)
        # A whole number may be too large to become a float.
        return isinstance(value, float) or (whole and abs(value) < 2**1000)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(kind, type):
        return isinstance(value, kind)
    return bool(value == kind)


def _wrong(value: object, form: object, where: str, place: str) -> ConfigError:
    named = f"{place} is" if place else "holds"
    return ConfigError(f"{where}: {named} {_short(value)}; expected {_words(form)}")


def _short(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _words(form: Any) -> str:  # noqa: ANN401
    if isinstance(form, tuple):
        return " or ".join(map(_words, form))
    if isinstance(form, list):
        return f"a list, each item {_words(form[0])}"
    if isinstance(form, Mapping):
        return _WORDS[dict]
    return repr(form) if isinstance(form, str) else _WORDS[form]

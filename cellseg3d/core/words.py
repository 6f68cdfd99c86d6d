"""Sentences that messages have in common: counts, suggestions, unknown keys."""

import difflib
from collections.abc import Iterable, Sequence

from cellseg3d.core.errors import ConfigError


def counted(number: int, noun: str) -> str:
    """Return ``"1 image"`` or ``"3 images"``; the plural is formed with an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like `word`; None when none is similar."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return ``"; did you mean 'X'?"``, or the known words when none is similar."""
    near = nearest(word, known)
    return f"; known: {', '.join(known)}" if near is None else did_you_mean(near)


def did_you_mean(word: str) -> str:
    """Return the end of a message that offers a word for a misspelt one."""
    return f"; did you mean {word!r}?"


def refuse_unknown(values: Iterable[object], known: Sequence[str], where: str) -> None:
    """Raise an error if a mapping has a key that is not known.

    Parameters
    ----------
    values : mapping or iterable
        The mapping, or its keys.
    known : sequence of str
        The keys that it may have.
    where : str
        The file, or what the mapping describes, for the message.

    Raises
    ------
    ConfigError
        If a key is unknown. The message names the nearest known key, or all of them.
    """
    for key in values:
        if key not in known:
            message = f"{where}: unknown key {key!r}"
            raise ConfigError(message + suggestion(str(key), known))

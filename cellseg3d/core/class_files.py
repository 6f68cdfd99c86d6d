"""Name a file for each class, and find the class of a file again."""

import unicodedata
from collections.abc import Sequence

# Stands between a volume's name and the class whose probability a file holds.
PROB_MARK = "_prob_"


def class_file_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return one word for each class that every file system takes in a name.

    Letters, digits, ``-``, ``_`` and ``.`` stay, anything else becomes ``_``. Where
    two classes would share a word, also one that differs in case alone, the later
    one gets a number: ``rough ER`` and ``rough_ER`` become ``rough_ER`` and
    ``rough_ER_2``.

    Parameters
    ----------
    classes : sequence of str
        Class names, each once.
    """
    taken: set[str] = set()
    names = []
    for given in classes:
        plain = unicodedata.normalize("NFC", given)
        word = "".join(c if c.isalnum() or c in "-_." else "_" for c in plain) or "_"
        name, number = word, 1
        while _shared(name) in taken:
            number += 1
            name = f"{word}_{number}"
        taken.add(_shared(name))
        names.append(name)
    return tuple(names)


def class_of_file(stem: str, classes: Sequence[str]) -> tuple[str, str]:
    """Return what stands before the mark in a file's name, and the class after it.

    Parameters
    ----------
    stem : str
        The name without its suffix, such as ``cell_prob_nucleus``.
    classes : sequence of str
        The classes that may be meant; of a file of none of them, the word after the
        last mark is returned as it is.
    """
    plain = unicodedata.normalize("NFC", stem)
    by_length = sorted(
        zip(class_file_names(classes), classes, strict=True),
        key=lambda pair: -len(pair[0]),
    )
    for word, name in by_length:
        if plain.endswith(f"{PROB_MARK}{word}"):
            return plain[: -len(PROB_MARK) - len(word)], name
    before, _, after = plain.rpartition(PROB_MARK)
    return before, after


def _shared(word: str) -> str:
    return unicodedata.normalize("NFC", word.casefold())

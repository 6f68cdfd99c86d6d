"""Read from a file's name its role, its specimen and its place in a series.

Training and scoring pair files by `stem_of`. Predictions skip the files that are labels
or results by `role_of`. Folders of slices are ordered by `series_of`.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from cellseg3d.core.errors import FormatError
from cellseg3d.io.sniff import volume_suffix

Role = Literal["image", "label", "prediction", "objects", "probability", "uncertainty"]

# The endings that programs, this one among them, append to the stem of a volume.
_ENDINGS: dict[Role, tuple[str, ...]] = {
    "image": ("image", "img", "raw"),
    "label": (
        "label",
        "labels",
        "mask",
        "masks",
        "seg",
        "segmentation",
        "truth",
        "gt",
        "groundtruth",
    ),
    "prediction": ("pred", "prediction", "predictions"),
    "objects": ("object", "objects", "instance", "instances", "ids"),
    "probability": ("prob", "probs", "probabilities", "logits"),
    "uncertainty": ("uncertainty",),
}
_ROLES: dict[str, Role] = {
    ending: role for role, endings in _ENDINGS.items() for ending in endings
}
_ENDING = re.compile(rf"[-_. ]({'|'.join(_ROLES)})$", re.IGNORECASE)
# The end of NAME_prob_CLASS, the probabilities that `predict` writes beside labels.
_PROBABILITY = re.compile(r"_prob_.+$")
# The number of the only channel, at the end of an image's name in nnU-Net's format.
_ONLY_CHANNEL = re.compile(r"_0000$")
# A number in a name: a decimal one, which no further point and number follow, or whole.
_NUMBER = re.compile(r"((?<!\d)(?<!\d\.)\d+\.\d+(?!\.?\d)|\d+)")
Number = int | Decimal
# The texts of a name, and the numbers between them.
Name = tuple[tuple[str, ...], tuple[Number, ...]]
# Words before a number that say what the number counts.
_CHANNEL_WORDS = ("c", "ch", "chan", "channel", "w", "wavelength")
_TIME_WORDS = ("t", "time", "timepoint", "tp", "frame")


def bare_name(path: Path | str) -> str:
    """Return a file's name without its folder and its suffix."""
    name = Path(path).name
    suffix = volume_suffix(name)
    return name[: -len(suffix)] if suffix and len(name) > len(suffix) else name


def role_of(path: Path | str) -> Role | None:
    """Return what a file holds by the ending of its name, or None if that is unknown.

    ``cell_labels.tif`` holds labels, ``cell_prob_ER.tif`` a probability.
    """
    name = bare_name(path)
    if _PROBABILITY.search(name):
        return "probability"
    found = _ENDING.search(name)
    return _ROLES[found[1].lower()] if found else None


def stem_of(path: Path | str) -> str:
    """Return the stem of a name, which is the same for image, labels and results.

    ``cell07_image.tif``, ``cell07_label.tif`` and ``cell07_image_labels.tif`` have
    the stem ``cell07``; so has nnU-Net's ``cell07_0000.nii.gz``.
    """
    stem = _PROBABILITY.sub("", bare_name(path))
    while (shorter := _ENDING.sub("", stem)) != stem and shorter:
        stem = shorter
    return _ONLY_CHANNEL.sub("", stem) or stem


def may_be_series(files: Sequence[Path]) -> bool:
    """Return whether at least half of some files are named alike but for a number."""
    templates = [_parse(file)[0] for file in files]
    usual = max(templates, key=templates.count)
    signed = [tuple(text.removesuffix("-") for text in texts) for texts in templates]
    most = max(templates.count(usual), *map(signed.count, signed))
    return len(usual) > 1 and 2 * most >= len(files)


@dataclass(frozen=True)
class Series:
    """Files whose names differ by one number, ordered by this number.

    Parameters
    ----------
    files : tuple of Path
        One file for each slice, of the first channel or time point.
    numbers : tuple of int or Decimal
        The numbers in their names, rising; decimal ones such as ``z1.5`` too.
    rows : tuple of tuple of Path
        The files of each channel or time point, in the same order; a single row if
        there are no channels or time points.
    counted : {"channels", "time points"} or None
        What the rows are, if there are several.
    """

    files: tuple[Path, ...]
    numbers: tuple[Number, ...]
    rows: tuple[tuple[Path, ...], ...]
    counted: str | None = None

    @property
    def gap(self) -> str | None:
        """A sentence about the first number that is missing, or None."""
        steps = [b - a for a, b in itertools.pairwise(self.numbers)]
        if len(set(steps)) < 2:
            return None
        least = min(steps)
        place = next(index for index, step in enumerate(steps) if step != least)
        missing = self.numbers[place] + least
        return f"the numbers of the slices have a gap: {missing} is missing"


def place_in(series: Series, file: Path) -> bool | None:
    """Return whether another file is named like the slices of a series.

    Returns
    -------
    bool or None
        True if it has a number that no slice has, False if it has one of theirs, and
        None if it is named otherwise.
    """
    texts, numbers = _parse(file if volume_suffix(file.name) else Path(file.stem))
    for slices in series.rows:
        known = {_parse(each) for each in slices}
        if texts in {each for each, _ in known}:
            return (texts, numbers) not in known
    return None


def series_of(files: Sequence[Path], folder: Path) -> Series:
    """Order files by the one number that varies in their names.

    A hyphen before a number is a minus sign if only some names have it (``z-1``,
    ``z0``). A second number may vary if the letters before it say that it counts
    channels or time points (``_ch00``, ``_t3``).

    Parameters
    ----------
    files : sequence of Path
        One or more files.
    folder : Path
        Their folder, for messages.

    Raises
    ------
    FormatError
        If a name has no number or does not fit the others, or if two numbers vary and
        the names do not say what they count.
    """
    if len(files) == 1:
        return Series(tuple(files), (0,), (tuple(files),))
    parsed = {file: _parse(file) for file in files}
    templates = [texts for texts, _ in parsed.values()]
    usual = max(templates, key=templates.count)
    strange = [file for file in files if parsed[file][0] != usual]
    if strange or len(usual) == 1:
        parsed, usual = _with_signs(parsed)
        strange = [file for file in files if parsed[file][0] != usual]
    if len(usual) == 1:
        raise FormatError(
            f"{folder}: {files[0].name} has no number in its name, so the order of the "
            "slices is unknown; number the files, or give the images one by one"
        )
    if strange:
        raise FormatError(
            f"{folder}: {strange[0].name} is not named like the other slices, such as "
            f"{next(f.name for f in files if f not in strange)}; move it to another "
            "folder"
        )
    return _ordered(parsed, usual, folder)


def _ordered(
    parsed: dict[Path, Name],
    texts: tuple[str, ...],
    folder: Path,
) -> Series:
    """Return the series of files whose names differ only in their numbers."""
    numbers = {file: found for file, (_, found) in parsed.items()}
    places = range(len(texts) - 1)
    varying = [p for p in places if len({found[p] for found in numbers.values()}) > 1]
    if not varying:  # the names differ only in leading zeros or suffixes
        file, other = list(parsed)[:2]
        raise FormatError(
            f"{folder}: {file.name} and {other.name} have the same number; keep one"
        )
    counted = {place: word for place in varying if (word := _counted(texts[place]))}
    depth = [place for place in varying if place not in counted]
    if not depth and len(varying) == 1:
        depth, counted = varying, {}
    if len(depth) > 1 and _in_step(numbers, depth):
        depth = depth[:1]
    if len(depth) > 1 or len(counted) > 1 or not depth:
        some = sorted(numbers, key=lambda file: numbers[file])[:2]
        raise FormatError(
            f"{folder}: {len(varying)} numbers vary in the names of its slices, such "
            f"as {some[0].name} and {some[1].name}, so their order is unknown; keep "
            "one channel and one time point in a folder, or rename the files so that "
            "one number counts the slices"
        )
    _refuse_counted_twice({found[depth[0]] for found in numbers.values()}, folder)
    return _rows(numbers, depth[0], counted, folder)


def _refuse_counted_twice(numbers: set[Number], folder: Path) -> None:
    """Refuse ``1.9, 1.10``, which may be decimal numbers or two numbers each.

    Raises
    ------
    FormatError
        If the two readings give different orders.
    """
    parts = {number: tuple(map(int, str(number).split("."))) for number in numbers}
    if sorted(parts) != sorted(parts, key=lambda number: parts[number]):
        listed = ", ".join(map(str, sorted(parts)[:4]))
        raise FormatError(
            f"{folder}: the numbers of its slices, such as {listed}, may be decimal or "
            "two numbers each, so their order is unknown; rename the files so that "
            "one number counts the slices"
        )


def _rows(
    numbers: dict[Path, tuple[Number, ...]],
    depth: int,
    counted: dict[int, str],
    folder: Path,
) -> Series:
    other = next(iter(counted), None)
    rows: dict[Number, dict[Number, Path]] = {}
    for file, found in numbers.items():
        row = rows.setdefault(0 if other is None else found[other], {})
        if found[depth] in row:
            raise FormatError(
                f"{folder}: {file.name} and {row[found[depth]].name} have the same "
                "number; keep one"
            )
        row[found[depth]] = file
    ordered = [rows[key] for key in sorted(rows)]
    first = sorted(ordered[0])
    for row in ordered[1:]:
        if sorted(row) != first:
            odd = sorted(set(row) ^ set(first))[0]
            raise FormatError(
                f"{folder}: slice {odd} exists for some {counted[other or 0]} and not "
                "for others; copy the folder again"
            )
    lists = tuple(tuple(row[number] for number in first) for row in ordered)
    word = None if other is None else counted[other]
    return Series(lists[0], tuple(first), lists, word)


def _parse(file: Path) -> Name:
    """Return the texts of a name and the numbers between them."""
    parts = _NUMBER.split(bare_name(file).lower())
    numbers = (Decimal(part) if "." in part else int(part) for part in parts[1::2])
    return tuple(parts[::2]), tuple(numbers)


def _with_signs(
    parsed: dict[Path, Name],
) -> tuple[dict[Path, Name], tuple[str, ...]]:
    """Return the parsed names with hyphens as signs of numbers, and the usual texts."""
    signed = {}
    for file, (texts, numbers) in parsed.items():
        bare = tuple(
            text.removesuffix("-") if index < len(numbers) else text
            for index, text in enumerate(texts)
        )
        values = tuple(
            -number if text.endswith("-") else number
            for text, number in zip(texts, numbers, strict=False)
        )
        signed[file] = (bare, values)
    templates = [texts for texts, _ in signed.values()]
    usual = max(templates, key=templates.count)
    return signed, usual


def _counted(text: str) -> str | None:
    """Return what a number counts by the letters before it, or None if unknown."""
    word = re.split(r"[^a-z]", text.rstrip("=-_. "))[-1]
    if word in _CHANNEL_WORDS:
        return "channels"
    return "time points" if word in _TIME_WORDS else None


def _in_step(numbers: dict[Path, tuple[Number, ...]], places: Sequence[int]) -> bool:
    """Return whether several numbers all order the files in the same way."""
    rows = sorted(tuple(found[place] for place in places) for found in numbers.values())
    return all(
        all(one < two for one, two in zip(row, after, strict=True))
        for row, after in itertools.pairwise(rows)
    )

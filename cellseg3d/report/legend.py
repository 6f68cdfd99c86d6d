"""The classes of a page and their colours, which all its pictures share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellseg3d.core.colours import LABEL_COLOURS, UNKNOWN_COLOUR, colour_of
from cellseg3d.core.ignore import IGNORE
from cellseg3d.report.inputs import ReportVolume

# Object ids become this many codes, so that objects that touch rarely share one. A
# multiple of the number of colours: ids then have the colours of their label file.
OBJECT_CODES = 6 * (len(LABEL_COLOURS) - 1)
UNKNOWN = "not annotated"
_GREYS = int(np.iinfo(np.uint8).max)


@dataclass(frozen=True)
class Legend:
    """The codes by which the page's pictures hold labels, and what they stand for.

    Parameters
    ----------
    values : tuple of int
        The class of each code from 1 on; for ids, code c stands for every id that is c
        modulo the number of codes.
    names : tuple of str
        The name of each code from 1 on.
    ids : bool
        Whether label values are object ids.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    ids: bool = False

    @property
    def step(self) -> int:
        """Distance of two codes as grey values; browsers may blur these by 1 or 2."""
        return max(1, _GREYS // max(1, len(self.values)))

    @property
    def unknown(self) -> int:
        """The code of "not annotated"; 0 if it does not occur."""
        return 0 if self.ids or IGNORE not in self.values else len(self.values)

    @property
    def colours(self) -> list[tuple[int, int, int]]:
        """The colour of each code from 0 on, those of the label files."""
        colours = [colour_of(value) for value in (0, *self.values)]
        if self.unknown:
            colours[self.unknown] = UNKNOWN_COLOUR
        return colours

    def codes(self, labels: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the code of each label, of the same shape."""
        if self.ids:
            one = labels.dtype.type(1)
            codes = (np.maximum(labels, one) - one) % labels.dtype.type(OBJECT_CODES)
            return np.where(labels > 0, codes + one, 0).astype(np.uint8)
        known = np.array((0, *self.values))
        found: NDArray[np.uint8] = np.searchsorted(known, labels).astype(np.uint8)
        return found

    def as_values(self) -> dict[str, Any]:
        """Return what the page's scripts need: codes, colours, and a row per chip."""
        kinds = [
            {"name": name, "codes": [code], "colour": self.colours[code]}
            for code, name in enumerate(self.names, 1)
        ]
        if self.ids:
            codes = list(range(1, OBJECT_CODES + 1))
            kinds = [{"name": "objects", "codes": codes, "colour": self.colours[1]}]
        return {
            "ids": self.ids,
            "step": self.step,
            "unknown": self.unknown,
            "colours": self.colours,
            "kinds": kinds,
        }


def legend_of(
    volumes: Iterable[ReportVolume], *, ids: bool, classes: Sequence[str] = ()
) -> Legend:
    """Return the legend of all labels that occur in volumes.

    Parameters
    ----------
    volumes : iterable of ReportVolume
    ids : bool
        Whether label values are object ids.
    classes : sequence of str
        Class names by value; a class without a name is called by its value.
    """
    if ids:
        values = tuple(range(1, OBJECT_CODES + 1))
        return Legend(values, ("objects",) * OBJECT_CODES, ids=True)
    found: set[int] = set()
    for volume in volumes:
        for labels in (volume.prediction, volume.truth):
            if labels is not None:
                found |= set(np.unique(labels.read()).tolist())
    values = tuple(sorted(found - {0}))
    return Legend(values, tuple(class_name(value, classes) for value in values))


def class_name(value: int, classes: Sequence[str]) -> str:
    """Return the name of a class, or its value in words when it has none."""
    if value == IGNORE and value >= len(classes):
        return UNKNOWN
    return classes[value] if value < len(classes) else f"class {value}"

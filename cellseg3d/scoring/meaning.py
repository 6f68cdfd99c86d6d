"""Find out what the values of a prediction and its truth mean, and if they agree."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import ConfigError, LabelError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.mappings import read_mapping
from cellseg3d.core.volume import Volume
from cellseg3d.datasets.cases import case_stem, split_inner
from cellseg3d.datasets.targets import BORDER_CORE, LINKS
from cellseg3d.io.labels import MOST_CLASSES
from cellseg3d.io.layout import OBJECT_IDS

# Number of values that a message lists.
_LISTED = 8


@dataclass(frozen=True)
class Meaning:
    """The classes of a prediction, and how its model's training labels became classes.

    Parameters
    ----------
    model : str
        The name of the model.
    classes : tuple of str
        Class names by the prediction's values, background first.
    labels : {"classes", "objects", "masks"}
        What the values of the training labels were.
    label_map : mapping of int to int or None
        The class of each value in the training labels; None if values were classes.
    """

    model: str
    classes: tuple[str, ...]
    labels: str = "classes"
    label_map: Mapping[int, int] | None = None

    def truth_map(
        self, values: Collection[int], truth: str
    ) -> tuple[dict[int, int] | None, str]:
        """Return the class of each value in a truth, and a sentence about it.

        Parameters
        ----------
        values : collection of int
            The values that occur in the truth.
        truth : str
            The file, for messages.

        Raises
        ------
        LabelError
            If the values mean something else than the prediction's, or if their
            meaning is unknown.
        """
        if self.classes in (BORDER_CORE, LINKS):
            message = (
                f"{truth}: cannot be compared with {' and '.join(self.classes[1:3])} "
                f"of {self.model}, which are parts of objects; compare NAME_objects of "
                "`cellseg3d predict --objects` and use `objects`"
            )
            raise LabelError(message)
        found = {int(value) for value in values} - {0, IGNORE}
        if self.labels != "classes":
            return self._foreground(found | ({int(v) for v in values} & {IGNORE}))
        plain = found <= set(range(len(self.classes)))
        if self.label_map is None:
            if plain:
                return None, ""
            raise LabelError(
                self._strange(found - set(range(len(self.classes))), truth)
            )
        return self._mapped({int(value) for value in values}, truth, plain=plain)

    def _foreground(self, found: set[int]) -> tuple[dict[int, int] | None, str]:
        if found <= {1}:
            return None, ""
        sentence = (
            f"all values of the truth count as {self.classes[1]}, since {self.model} "
            "was trained on object ids"
        )
        return dict.fromkeys(found, 1), sentence

    def _mapped(
        self, values: set[int], truth: str, *, plain: bool
    ) -> tuple[dict[int, int] | None, str]:
        """Return the label map of the training if the truth has the values it names."""
        renaming = dict(self.label_map or {})
        own = values - {0, IGNORE} <= set(renaming)
        changed = {v: renaming[v] for v in values if renaming.get(v, v) != v}
        if own and plain and changed:
            as_they_are = " and ".join(f"{v}:{v}" for v in sorted(changed))
            mapped = " and ".join(f"{v}:{to}" for v, to in sorted(changed.items()))
            message = (
                f"{truth}: its values may be classes of {self.model} or values of the "
                f"training labels; say which with `truth_map`: {as_they_are} for "
                f"classes, {mapped} for training labels"
            )
            raise LabelError(message)
        if own:
            listed = ", ".join(f"{v} is {to}" for v, to in sorted(changed.items()))
            sentence = f"the truth is read with the label map of the training: {listed}"
            return (renaming, sentence) if changed else (None, "")
        if plain:
            return None, ""
        raise LabelError(self._strange(values - {0, IGNORE} - set(renaming), truth))

    def _strange(self, values: Collection[int], truth: str) -> str:
        listed = ", ".join(map(str, sorted(values)[:_LISTED]))
        more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
        names = ", ".join(f"{i} {name}" for i, name in enumerate(self.classes))
        return (
            f"{truth}: holds the values {listed}{more}, and {self.model} predicts "
            f"{names}; say which value is which class with `truth_map`"
        )


def meaning_of(prediction: str) -> Meaning | None:
    """Return the meaning from the record beside a prediction; None without a record."""
    path = record_path(prediction)
    if not path.is_file():
        return None
    return _parsed(read_mapping(path), path)


def record_path(prediction: str) -> Path:
    """Return where the record of a label file lies, if there is one."""
    file, _ = split_inner(prediction)
    stem = case_stem(prediction).removesuffix("_labels")
    return file.with_name(f"{stem}_labels.json")


def models_of(prediction: str) -> list[Mapping[str, Any]]:
    """Return what the record beside labels or objects says of the models.

    A record that is absent or not of a prediction gives no models.
    """
    return [each for each in _recorded(prediction, "models") if isinstance(each, dict)]


def channels_of(prediction: str) -> list[int | str]:
    """Return the names or numbers of the channels that a network read of the image.

    The list is empty if no record lies beside the prediction, or if it names none.
    """
    names = [str(each) for each in _recorded(prediction, "channels")]
    numbers = [name.removeprefix("channel ") for name in names]
    return [
        int(number) if number != name and number.isdecimal() else name
        for name, number in zip(names, numbers, strict=True)
    ]


def _recorded(prediction: str, key: str) -> list[Any]:
    """Return a list of the record beside labels or objects; empty if it has none."""
    found = segmentation_of(prediction).get(key, [])
    return found if isinstance(found, list) else []


def segmentation_of(prediction: str) -> Mapping[str, Any]:
    """Return what the record beside labels or objects says of the segmentation.

    It is empty for a record that is absent or not of a prediction.
    """
    path = record_path(prediction)
    if case_stem(prediction).endswith("_objects"):
        path = path.with_name(path.name.replace("_objects_labels", "_labels"))
    try:
        record = read_mapping(path) if path.is_file() else {}
        found = record.get("segmentation", {})
    except (ConfigError, AttributeError):
        return {}
    return found if isinstance(found, Mapping) else {}


def check_shared(
    predicted: Collection[int], true: Collection[int], prediction: str, truth: str
) -> None:
    """Refuse a prediction and a truth that have no value in common.

    Raises
    ------
    LabelError
        If both hold values other than 0 and 255, and none of them is in both.
    """
    one, two = ({int(v) for v in values} - {0, IGNORE} for values in (predicted, true))
    if not one or not two or one & two:
        return
    listed = [", ".join(map(str, sorted(each)[:_LISTED])) for each in (one, two)]
    message = (
        f"{truth}: holds the values {listed[1]}, and {prediction} holds {listed[0]}; "
        "their values mean different things: say which is which with `truth_map`"
    )
    raise LabelError(message)


def marked_ids(*volumes: Volume) -> str:
    """Return a sentence if a file says that its values are ids of objects; else ``""``.

    `cellseg3d.objects.label.label_objects` and ``cellseg3d predict --objects`` write
    this mark.

    Parameters
    ----------
    *volumes : Volume
        Labels of a prediction or a truth.
    """
    marked = [each.name for each in volumes if each.provenance.get(OBJECT_IDS) is True]
    if not marked:
        return ""
    return (
        f"the values are taken for ids of objects, since {marked[0]} says that it "
        "holds ids; the objects are scored, as with `objects`"
    )


def refuse_many(values: Collection[int], name: str) -> None:
    """Refuse values that are too many for classes without names.

    Raises
    ------
    LabelError
        If there are more than 16 besides 0 and 255.
    """
    found = {int(value) for value in values} - {0, IGNORE}
    if len(found) > MOST_CLASSES:
        message = (
            f"{name}: holds {len(found)} values, as many as ids of objects and not of "
            "classes; add `objects` if they are ids, or give the names of all classes "
            "with `classes`"
        )
        raise LabelError(message)


def _parsed(record: Mapping[str, Any], path: Path) -> Meaning | None:
    """Return the meaning in a record; None if the record is not of a prediction."""
    if not isinstance(record.get("segmentation"), Mapping):
        return None
    try:
        model = record["segmentation"]["models"][0]
        renaming = model.get("label_map")
        return Meaning(
            str(model["name"]),
            tuple(map(str, model["classes"])),
            str(model.get("labels", "classes")),
            None
            if renaming is None
            else {int(value): int(to) for value, to in renaming.items()},
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        message = f"{path}: is not a prediction's record ({error!r}); predict again"
        raise ConfigError(message) from error

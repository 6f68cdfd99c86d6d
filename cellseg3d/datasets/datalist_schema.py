"""Check the keys and values of a datalist file; errors name the key and the case."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from cellseg3d.core.errors import ConfigError, InputError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.old_names import current_label_kind
from cellseg3d.core.spacing import Spacing
from cellseg3d.core.volume import IntensityUnit
from cellseg3d.core.words import refuse_unknown, suggestion
from cellseg3d.datasets.cases import (
    INNER,
    LABELLED,
    Case,
    Datalist,
    LabelKind,
    Split,
    case_stem,
    split_inner,
)
from cellseg3d.io.picking import check_read_as
from cellseg3d.io.registry import Channels

BACKGROUND = "background"
_SPLIT_WORDS: dict[str, Split] = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_KEYS = (
    "name",
    "description",
    "classes",
    "label_map",
    "labels",
    "spacing_um",
    "annotated_slices",
    "channel",
    "channels",
    "intensity_unit",
    "allow_shared_groups",
    "cases",
)
_CASE_KEYS = (
    "name",
    "image",
    "label",
    "group",
    "split",
    "spacing_um",
    "annotated",
    "channel",
    "channels",
    "read_as",
    "annotated_slices",
)
_PICK = ("channel", "channels")
# Keys that may stand beside `cases`, for all cases that do not have them.
_COMMON_KEYS = ("spacing_um", "annotated_slices", "channel", "channels")


def parse_datalist(values: Mapping[str, Any], path: Path) -> Datalist:
    """Return the datalist that a mapping describes.

    Paths of files are relative to the folder of `path`.

    Raises
    ------
    ConfigError, InputError
        As in `load_datalist`.
    """
    where = str(path)
    refuse_unknown(values, _KEYS, where)
    classes = _class_names(values.get("classes"), where)
    common = {key: values[key] for key in _COMMON_KEYS if key in values}
    entries = values.get("cases")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{where}: 'cases' is {entries!r}; expected a list of cases")
    cases = tuple(
        _case(entry, f"{where}: case {number}", path.parent, (classes, common))
        for number, entry in enumerate(entries)
    )
    _refuse_doubles(cases, where)
    return Datalist(
        name=_text(values.get("name", path.resolve().parent.name), "name", where),
        classes=classes,
        label_map=_label_map(values.get("label_map"), len(classes), where),
        cases=cases,
        labels=_choice(
            current_label_kind(values.get("labels", "classes")),
            get_args(LabelKind),
            "labels",
            where,
        ),
        intensity_unit=_choice(
            values.get("intensity_unit", "arbitrary"),
            get_args(IntensityUnit),
            "intensity_unit",
            where,
        ),
        allow_shared_groups=_flag(values, "allow_shared_groups", where),
        path=path,
    )


def _case(
    entry: object,
    where: str,
    folder: Path,
    known: tuple[tuple[str, ...], Mapping[str, Any]],
) -> Case:
    classes, common = known
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is {entry!r}; expected a mapping with 'image'")
    refuse_unknown(entry, _CASE_KEYS, where)
    own = {"channel", "channels"} & set(entry)
    entry = {**{k: v for k, v in common.items() if not own or k not in _PICK}, **entry}
    if own == set(_PICK):
        raise ConfigError(
            f"{where}: has 'channel' and 'channels'; give 'channel' for one, or "
            "'channels' for several"
        )
    if "image" not in entry:
        raise ConfigError(f"{where}: 'image' is missing")
    image = _location(entry["image"], "image", where, folder)
    label = entry.get("label")
    name = _text(entry.get("name", case_stem(image)), "name", where)
    split = entry.get("split")
    if split is not None:
        split = _SPLIT_WORDS[_choice(split, tuple(_SPLIT_WORDS), "split", where)]
    return Case(
        name=name,
        image=image,
        label=None if label is None else _location(label, "label", where, folder),
        group=_text(entry.get("group", name), "group", where),
        split=split,
        spacing=_spacing(entry.get("spacing_um"), where),
        annotated=_annotated(entry.get("annotated"), classes, where),
        channel=_channel(entry.get("channel"), where),
        channels=_channels(entry.get("channels"), where),
        read_as=_read_as(entry.get("read_as"), where),
        annotated_slices=_slices(
            entry.get("annotated_slices"), f"{where}: 'annotated_slices'"
        ),
    )


def _channel(value: object, where: str) -> int | str | None:
    if value is None or _names_channel(value):
        return value  # type: ignore[return-value]
    raise ConfigError(
        f"{where}: 'channel' is {value!r}; expected a name, or 0, 1, 2, ..."
    )


def _names_channel(value: object) -> bool:
    """Return whether a value is the name or the number of a channel."""
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _channels(value: object, where: str) -> Channels | None:
    if value is None:
        return None
    several = value if isinstance(value, list) else []
    if several and all(map(_names_channel, several)):
        return tuple(several)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ConfigError(
        f"{where}: 'channels' is {value!r}; expected a list of names or numbers in the "
        'order that the network sees, such as ["DAPI", "actin"], or how many there are'
    )


def _slices(value: object, where: str) -> str | tuple[int, ...] | None:
    if value is None or value == LABELLED:
        return None if value is None else LABELLED
    numbers = isinstance(value, list) and all(
        isinstance(each, int) and not isinstance(each, bool) and each >= 0
        for each in value
    )
    if not isinstance(value, list) or not numbers or not value:
        message = (
            f"{where} is {value!r}; expected slice numbers counted from 0, such as "
            f'[3, 10], or "{LABELLED}"'
        )
        raise ConfigError(message)
    return tuple(sorted(set(value)))


def _read_as(value: object, where: str) -> str | None:
    if value is None:
        return None
    word = _text(value, "read_as", where)
    try:
        check_read_as(word)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return word


def _location(value: object, key: str, where: str, folder: Path) -> str:
    file, inner = split_inner(_text(value, key, where))
    file = file if file.is_absolute() else folder / file
    if not file.exists():
        raise InputError(f"{where}: {key} {file} does not exist")
    return str(file) if inner is None else f"{file}{INNER}{inner}"


def _annotated(
    value: object, classes: tuple[str, ...], where: str
) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ConfigError(f"{where}: 'annotated' is {value!r}; expected class names")
    for name in value:
        if name not in classes:
            message = f"{where}: 'annotated' names {name!r}" + suggestion(
                str(name), classes
            )
            raise ConfigError(message)
    return tuple(value)


def _class_names(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < 2:
        message = (
            f"{where}: 'classes' is {value!r}; expected a list of at least two names, "
            f"such as ['{BACKGROUND}', 'cell']"
        )
        raise ConfigError(message)
    names = tuple(_text(name, "classes", where) for name in value)
    if len(set(names)) != len(names):
        raise ConfigError(f"{where}: 'classes' holds a name twice: {list(names)}")
    if len(names) > 255:
        raise ConfigError(f"{where}: {len(names)} classes; at most 255 are possible")
    return names


def _label_map(value: object, classes: int, where: str) -> dict[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: 'label_map' is {value!r}; expected a mapping")
    result = {}
    for source, target in value.items():
        try:
            number = int(source)
        except (TypeError, ValueError) as error:
            message = f"{where}: 'label_map' key {source!r} is not a label value"
            raise ConfigError(message) from error
        whole = isinstance(target, int) and not isinstance(target, bool)
        if not whole or not (0 <= target < classes or target == IGNORE):
            message = (
                f"{where}: 'label_map' sends {number} to {target!r}; expected a class "
                f"index 0 to {classes - 1}, or 255 for 'not annotated'"
            )
            raise ConfigError(message)
        result[number] = target
    return result


def _spacing(value: object, where: str) -> Spacing | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and all(
        isinstance(length, int | float) and not isinstance(length, bool)
        for length in value
    )
    if not isinstance(value, list) or not numbers or len(value) != 3:
        raise ConfigError(f"{where}: 'spacing_um' is {value!r}; expected [z, y, x]")
    return Spacing.of(value)


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str) or not value:
        message = f"{where}: {key!r} is {value!r}; expected text (in quotes)"
        raise ConfigError(message)
    return value


def _choice(value: object, known: Sequence[str], key: str, where: str) -> Any:  # noqa: ANN401
    if value not in known:
        message = f"{where}: {key!r} is {value!r}" + suggestion(str(value), known)
        raise ConfigError(message)
    return value


def _flag(values: Mapping[str, Any], key: str, where: str) -> bool:
    value = values.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {key!r} is {value!r}; expected true or false")
    return value


def _refuse_doubles(cases: Sequence[Case], where: str) -> None:
    for key in ("name", "image"):
        seen: set[str] = set()
        for case in cases:
            value = getattr(case, key)
            if value in seen:
                raise ConfigError(f"{where}: two cases have the {key} {value!r}")
            seen.add(value)

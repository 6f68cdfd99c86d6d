"""Read datalists from JSON, YAML or a folder of image and label pairs; write JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellseg3d.core.atomic import write_text
from cellseg3d.core.errors import InputError
from cellseg3d.core.mappings import read_mapping
from cellseg3d.datasets.cases import (
    INNER,
    LABELLED,
    Case,
    Datalist,
    LabelKind,
    Split,
    split_inner,
)
from cellseg3d.datasets.datalist_schema import parse_datalist
from cellseg3d.datasets.pairing import pair_folder
from cellseg3d.io.sniff import volume_suffix

__all__ = [
    "Case",
    "Datalist",
    "LabelKind",
    "Split",
    "class_names",
    "load_datalist",
    "num_classes",
    "parse_datalist",
    "resolve_datalist",
    "write_datalist",
]

FILE_NAMES = ("datalist.json", "datalist.yaml", "datalist.yml")


def resolve_datalist(place: str | Path) -> Path:
    """Return the path of the datalist in a folder; other paths are returned unchanged.

    Raises
    ------
    InputError
        If the path does not exist, or is a volume.
    """
    path = Path(place)
    if not path.exists():
        message = (
            f"{path}: does not exist; expected a datalist file or a folder; check the "
            "path"
        )
        raise InputError(message)
    if path.is_file() and volume_suffix(path.name):
        message = (
            f"{path}: is a volume, not a data set; give the folder of the images and "
            "labels, or a datalist.json"
        )
        raise InputError(message)
    if path.is_dir():
        found = [path / name for name in FILE_NAMES if (path / name).is_file()]
        return found[0] if found else path
    return path


def load_datalist(place: str | Path) -> Datalist:
    """Read a datalist: JSON, YAML, or a folder whose files pair by stem.

    Parameters
    ----------
    place : str or Path
        A file, a folder that holds ``datalist.json`` (or ``.yaml``), or a folder of
        images and labels (`cellseg3d.datasets.pairing` says which layouts).

    Raises
    ------
    ConfigError
        If a key is unknown, a value has the wrong type, a name occurs twice, or
        the file is not valid JSON or YAML.
    InputError
        If the file or folder, an image or a label is missing.
    """
    path = resolve_datalist(place)
    if path.is_dir():
        return pair_folder(path)
    return parse_datalist(read_mapping(path), path)


def write_datalist(datalist: Datalist, path: Path) -> None:
    """Write a datalist as JSON; paths below the file's folder become relative."""
    values: dict[str, Any] = {
        "name": datalist.name,
        "classes": list(datalist.classes),
        "labels": datalist.labels,
        "intensity_unit": datalist.intensity_unit,
        "allow_shared_groups": datalist.allow_shared_groups,
    }
    if datalist.label_map is not None:
        values["label_map"] = {str(k): v for k, v in datalist.label_map.items()}
    values["cases"] = [_case_values(case, path.parent) for case in datalist.cases]
    text = json.dumps(values, indent=2) + "\n"
    write_text(path, text)


def num_classes(place: str | Path, default: int) -> int:
    """Return the number of classes of a datalist; `default` if it does not exist."""
    return len(load_datalist(place).classes) if Path(place).exists() else default


def class_names(place: str | Path, default: Sequence[str]) -> list[str]:
    """Return the class names of a datalist; `default` if it does not exist."""
    if not Path(place).exists():
        return list(default)
    return list(load_datalist(place).classes)


def _case_values(case: Case, folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": case.name,
        "image": _relative(case.image, folder),
        "group": case.group,
    }
    if case.label is not None:
        values["label"] = _relative(case.label, folder)
    if case.split is not None:
        values["split"] = case.split
    if case.spacing is not None:
        values["spacing_um"] = list(case.spacing.zyx)
    if case.annotated is not None:
        values["annotated"] = list(case.annotated)
    if case.channel is not None:
        values["channel"] = case.channel
    if case.channels is not None:
        several = case.channels
        values["channels"] = several if isinstance(several, int) else list(several)
    if case.read_as is not None:
        values["read_as"] = case.read_as
    if case.annotated_slices is not None:
        slices = case.annotated_slices
        values["annotated_slices"] = slices if slices == LABELLED else list(slices)
    return values


def _relative(location: str, folder: Path) -> str:
    file, inner = split_inner(location)
    # Paths may be relative to the working directory, and `folder` may be another one.
    file, folder = file.absolute(), folder.absolute()
    if file.is_relative_to(folder):
        file = file.relative_to(folder)
    return file.as_posix() if inner is None else f"{file.as_posix()}{INNER}{inner}"

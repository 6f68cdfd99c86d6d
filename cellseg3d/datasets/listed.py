"""Make a data set of a list of files, as MONAI and MONAI Label write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellseg3d.core.errors import ConfigError
from cellseg3d.datasets.cases import Case, Datalist, Split
from cellseg3d.datasets.targets import LabelTarget

# A mapping for each volume: ``{"image": PATH, "label": PATH}``, perhaps with more keys.
Files = Sequence[Mapping[str, Any]]


def listed_files(
    training: Files | None,
    validation: Files | None,
    classes: Sequence[str],
    target: LabelTarget | Mapping[str, Any] | None = None,
) -> Datalist:
    """Return a data set whose sides are prescribed by two lists of files.

    Parameters
    ----------
    training, validation : sequence of mapping, optional
        An item has ``"image"`` and ``"label"``, the paths of a volume and its labels.
    classes : sequence of str
        Names of the label values 0, 1, ...; background first.
    target : LabelTarget or mapping, optional
        What the network learns. If it is made of object ids, the labels hold these.

    Raises
    ------
    ConfigError
        If an item lacks a path, or nothing is listed to train on.
    """
    sides: dict[Split, Files] = {
        "training": training or (),
        "validation": validation or (),
    }
    if not training:
        message = "train::dataset::data: is empty; list files to train on, too"
        raise ConfigError(message)
    cases: list[Case] = []
    for side, items in sides.items():
        for number, item in enumerate(items):
            paths = [item.get(key) for key in ("image", "label")]
            if not all(isinstance(path, str | Path) and str(path) for path in paths):
                message = (
                    f"{side}::data: item {number} is {dict(item)!r:.200}; expected "
                    "{'image': PATH, 'label': PATH}"
                )
                raise ConfigError(message)
            # Names must differ; files of two folders may have the same one.
            name = f"{len(cases):03d}_{Path(str(paths[0])).name}"
            image, label = (str(path) for path in paths)
            cases.append(Case(name, image, label, group=name, split=side))
    return Datalist(
        name="listed files",
        classes=tuple(classes),
        label_map=None,
        cases=tuple(cases),
        labels="objects" if LabelTarget.parse(target).of_objects else "classes",
    )

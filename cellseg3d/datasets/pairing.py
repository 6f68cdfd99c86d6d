"""Find the cases in a folder: pairs of image and label files, matched by name."""

import logging
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from cellseg3d.core.errors import InputError, LabelError
from cellseg3d.core.ignore import IGNORE
from cellseg3d.core.words import counted
from cellseg3d.datasets.cases import (
    INNER,
    Case,
    Datalist,
    LabelKind,
    case_stem,
    split_inner,
)
from cellseg3d.datasets.labels import value_counts, whole_numbers
from cellseg3d.io.formats import kind_to_read, module_of
from cellseg3d.io.labels import MOST_CLASSES
from cellseg3d.io.listing import own_results
from cellseg3d.io.names import role_of, stem_of
from cellseg3d.io.registry import list_volumes, read_labels
from cellseg3d.io.sniff import volume_suffix
from cellseg3d.io.strangers import way_out

IMAGE_FOLDERS = ("images", "imagesTr", "image", "raw")
LABEL_FOLDERS = ("labels", "labelsTr", "label", "masks", "mask")
# Labels with a value above this are read as object ids: class indices are small.

Meaning = tuple[LabelKind, tuple[str, ...]]
MASKS: Meaning = ("masks", ("background", "object"))
Pairs = dict[str, tuple[str, str]]
logger = logging.getLogger(__name__)


class UnpairedError(InputError):
    """Some files have no partner.

    Parameters
    ----------
    message : str
        The message of the error.
    alone : sequence of str
        The files without a partner.
    pairs : dict of str to (str, str)
        Image and label of every stem that has both.
    """

    def __init__(self, message: str, alone: Sequence[str], pairs: Pairs) -> None:
        super().__init__(message)
        self.alone = tuple(alone)
        self.pairs = pairs


def pair_folder(folder: Path) -> Datalist:
    """Return the cases of a folder whose images and labels pair by stem.

    Four layouts are known:

    - ``X_image.*`` or ``X.*`` beside ``X_label.*`` or ``X_mask.*``;
    - a folder ``images`` beside a folder ``labels`` or ``masks``, or ``imagesTr``
      beside ``labelsTr``;
    - ``X/images/*`` with one mask per object in ``X/masks/*`` (the 2018 Data Science
      Bowl);
    - HDF5 files or Zarr folders that hold ``raw`` and ``label``, or an OME-Zarr image
      with a group ``labels``.

    Each case is its own group. The classes are the label values that occur; a datalist
    can name them.

    Raises
    ------
    InputError
        If no volumes are found, or some image or label has no partner.
    LabelError
        If label values are fractional or negative, or hold only 0 and 255.
    """
    pairs, masks = find_pairs(folder)
    return datalist_of_pairs(folder, pairs, masks=masks)


def find_pairs(folder: Path) -> tuple[Pairs, bool]:
    """Return (image, label) by stem, and whether the labels are folders of masks.

    Raises
    ------
    UnpairedError
        If some image or label has no partner.
    InputError
        If no volumes are found, or two have the same stem.
    """
    for layout in (_object_folders, _two_folders, _side_by_side, _containers):
        pairs = layout(folder)
        if pairs:
            return pairs, layout is _object_folders
    message = (
        f"{folder}: no pairs of volumes found: {_seen(folder)}; name them X_image.* "
        "(or X.*) and X_label.* (or X_mask.*), put them into images/ and labels/, "
        "X/images and X/masks, or HDF5 or Zarr with raw and label, or write a "
        "datalist.json"
    )
    raise InputError(message)


def datalist_of_pairs(folder: Path, pairs: Pairs, *, masks: bool = False) -> Datalist:
    """Return a datalist of pairs; its classes are the label values that occur.

    Raises
    ------
    LabelError
        If label values are fractional or negative, or hold only 0 and 255.
    """
    cases = tuple(
        Case(name, image, label, group=name)
        for name, (image, label) in sorted(pairs.items())
    )
    kind, classes = MASKS
    if not masks:
        labels = tuple(str(case.label) for case in cases)
        kind, classes = _meaning(folder, labels, tuple(map(_stamp, labels)))
    name = folder.resolve().name  # The name of "." is empty unless resolved.
    return Datalist(name, classes, None, cases, labels=kind, path=folder)


def _volumes(folder: Path) -> list[Path]:
    """Return the volumes in a folder; the list is empty if there are none."""
    names = [path.name for path in folder.iterdir()]
    return list_volumes(folder) if any(map(volume_suffix, names)) else []


def _object_folders(folder: Path) -> Pairs:
    pairs = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        images, masks = place / "images", place / "masks"
        if not (images.is_dir() and masks.is_dir()):
            continue
        files = list_volumes(images)
        if len(files) != 1:
            message = f"{images}: holds {len(files)} images; expected one"
            raise InputError(message)
        pairs[place.name] = (str(files[0]), str(masks))
    return pairs


def _two_folders(folder: Path) -> Pairs:
    images = next((folder / n for n in IMAGE_FOLDERS if (folder / n).is_dir()), None)
    labels = next((folder / n for n in LABEL_FOLDERS if (folder / n).is_dir()), None)
    if images is None or labels is None:
        return {}
    return _match(_volumes(images), _volumes(labels), folder)


def _side_by_side(folder: Path) -> Pairs:
    """Pair ``X_image.*`` or ``X.*`` with ``X_label.*``, ``X_mask.*`` and the like."""
    own = own_results(folder)
    files = [path for path in _volumes(folder) if path not in own]
    labels = [path for path in files if role_of(path) == "label"]
    images = [path for path in files if role_of(path) == "image"]
    plain = [path for path in files if role_of(path) is None]
    if labels and not images:
        images = plain
    elif labels:
        known = {stem_of(path) for path in images}
        wanted = {stem_of(path) for path in labels} - known
        images += [path for path in plain if stem_of(path) in wanted]
        stray = [path for path in plain if path not in images]
        if stray:
            logger.warning(
                "%s: %s left out, since no label has such a name (%s)",
                folder,
                f"{counted(len(stray), 'volume')} {'is' if len(stray) == 1 else 'are'}",
                ", ".join(path.name for path in stray[:4]),
            )
    return _match(images, labels, folder) if images and labels else {}


def _containers(folder: Path) -> Pairs:
    """Pair the image and the labels inside of each HDF5 or Zarr."""
    pairs = {}
    for path in _volumes(folder):
        kind = kind_to_read(path)
        if kind not in ("hdf5", "zarr"):
            continue
        found = module_of(kind).image_and_label(path)
        if found is not None:
            image, label = (
                f"{path}{INNER}{name}" if name else str(path) for name in found
            )
            pairs[case_stem(str(path))] = (image, label)
    return pairs


def _match(images: Iterable[Path], labels: Iterable[Path], folder: Path) -> Pairs:
    """Pair two lists of files by stem; refuse files without a partner."""
    one, two = _by_stem(images), _by_stem(labels)
    alone = [str(one[stem]) for stem in sorted(one.keys() - two.keys())]
    alone += [str(two[stem]) for stem in sorted(two.keys() - one.keys())]
    pairs = {stem: (str(one[stem]), str(two[stem])) for stem in one if stem in two}
    if alone:
        more = f" and {len(alone) - 10} more" if len(alone) > 10 else ""
        message = (
            f"{folder}: {len(alone)} files have no partner of the same stem: "
            f"{', '.join(alone[:10])}{more}; add the partners, remove these files, or "
            "write a datalist.json (where a label may be left out)"
        )
        raise UnpairedError(message, alone, pairs)
    return pairs


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for path in paths:
        stem = stem_of(path)
        if stem in stems:
            message = f"{path}: has the same stem {stem!r} as {stems[stem]}; rename one"
            raise InputError(message)
        stems[stem] = path
    return stems


def _seen(folder: Path) -> str:
    """Return a short description of the files in a folder."""
    every = sorted(path for path in folder.rglob("*") if path.is_file())
    if not every:
        return "the folder is empty"
    volumes = [path for path in every if volume_suffix(path.name)]
    others = [path for path in every if not volume_suffix(path.name)]
    parts = []
    for kind, files in (("volume", volumes), ("other file", others)):
        if files:
            names = ", ".join(path.relative_to(folder).as_posix() for path in files[:4])
            more = ", ..." if len(files) > 4 else ""
            parts.append(f"{counted(len(files), kind)} ({names}{more})")
    way = "" if volumes else next(filter(None, map(way_out, others)), "")
    return f"found {' and '.join(parts)}" + (f"; {way}" if way else "")


def _stamp(location: str) -> tuple[int, int]:
    stat = split_inner(location)[0].stat()
    return stat.st_size, stat.st_mtime_ns


# A run asks several times. The cache avoids reading every label, and warning, again.
@lru_cache(maxsize=8)
def _meaning(
    folder: Path, labels: Sequence[str], stamps: Sequence[tuple[int, int]]
) -> Meaning:
    """Return the kind of a folder's labels and their classes, from the label values."""
    del stamps  # They are part of the cache's key: changed files are read again.
    highest, small = 0, 0
    for location in labels:
        volume = read_labels(location)
        values, _ = value_counts(whole_numbers(volume.read(), volume.name))
        if values.size and int(values[0]) < 0:
            message = (
                f"{volume.name}: the least label value is {int(values[0])}; expected 0 "
                "or more"
            )
            raise LabelError(message)
        highest = max(highest, int(values[-1]))
        small = max([small, *(int(v) for v in values if v != IGNORE)])
    if small > MOST_CLASSES or highest > IGNORE:
        logger.warning(
            "%s: label values go up to %d, so they are read as object ids; say "
            '"labels": "classes" in a datalist.json if they are classes',
            folder,
            highest,
        )
        return "objects", ("background", "object")
    if small == 0 and highest == IGNORE:
        message = (
            f"{folder}: the labels hold only 0 and 255, and 255 means 'not annotated'; "
            'if 255 is the object, write a datalist.json with "label_map": {"255": 1}'
        )
        raise LabelError(message)
    if small <= 1:
        return "classes", ("background", "foreground")
    return "classes", ("background", *(f"class_{i}" for i in range(1, small + 1)))

"""What is in a folder: images, labels, results, or the slices of one volume.

All verbs ask here, so that a folder is the same for each of them.
"""

from dataclasses import dataclass
from glob import escape
from pathlib import Path

from cellseg3d.core.errors import AxisError, ConfigError, FormatError
from cellseg3d.core.mappings import read_mapping
from cellseg3d.io.formats import kind_to_read
from cellseg3d.io.names import may_be_series, role_of, stem_of
from cellseg3d.io.registry import list_volumes, open_volume, split_inner
from cellseg3d.io.slices import NOTES_FILE
from cellseg3d.io.sniff import check_path, natural_key, volume_suffix

FOLDERS = ("auto", "images", "slices")
_SLICES = (".png", ".tif", ".tiff")
# What `predict` writes beside NAME_labels.json.
_WRITTEN = ("labels", "objects", "uncertainty", "overlay", "prob_*")


@dataclass(frozen=True)
class FolderContent:
    """The volumes that lie in a folder, by what their names and records say.

    Parameters
    ----------
    images : tuple of Path
        Volumes named as images, or whose names say nothing.
    labels : tuple of Path
        Volumes named as labels or masks.
    results : tuple of Path
        What a prediction has written, by its record or by its name.
    one_volume : bool
        Whether the images are the slices of one volume.
    """

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    results: tuple[Path, ...]
    one_volume: bool = False

    @property
    def to_segment(self) -> tuple[Path, ...]:
        """The images; labels where there are no images, and results never."""
        return self.images or self.labels


def content_of(folder: Path, folders: str = "auto") -> FolderContent:
    """Return what lies in a folder.

    Parameters
    ----------
    folder : Path
    folders : {"auto", "images", "slices"}
        What PNG or TIFF images of one slice are: each a volume, or all the slices of
        one; ``"auto"`` takes them for slices if their names differ by a number and
        nothing says that they are images, labels or results.

    Raises
    ------
    ConfigError
        If `folders` is another word.
    FormatError
        If it is no folder or holds no volume, or if files named like slices do not
        fit together.
    """
    if folders not in FOLDERS:
        expected = ", ".join(FOLDERS)
        raise ConfigError(f"`folders` is {folders!r}; expected one of {expected}")
    found = list_volumes(folder)
    own = own_results(folder)
    roles = {path: role_of(path) for path in found if path not in own}
    images = tuple(path for path, role in roles.items() if role in (None, "image"))
    labels = tuple(path for path, role in roles.items() if role == "label")
    results = tuple(path for path in found if path not in (*images, *labels))
    slices = all(path.suffix.lower() in _SLICES for path in found)
    one = folders == "slices" and slices
    if folders == "auto" and slices and not own:
        one = _is_one_volume(folder, found)
    return FolderContent(images, labels, results, one)


def own_results(folder: Path) -> set[Path]:
    """Return the volumes in a folder that predictions wrote, by their records."""
    found: set[Path] = set()
    for record in folder.glob("*_labels.json"):
        name = record.stem.removesuffix("_labels")
        if _is_record(record):
            for what in _WRITTEN:
                found |= set(folder.glob(f"{escape(name)}_{what}.*"))
    return {path for path in found if volume_suffix(path.name)}


def volumes_at(path: Path | str) -> list[str]:
    """Return the names of the volumes that a path stands for.

    A folder of single PNG or TIFF slices is one volume; any other folder stands for
    the volumes in it, or, if it holds none itself, for those in its folders, such as
    ``images`` and ``labels``.

    Raises
    ------
    FormatError
        If the path is missing, or a folder without volumes.
    """
    file, inner = split_inner(path, None)
    if inner:
        return [str(path)]
    check_path(file)
    if not file.is_dir() or kind_to_read(file) != "folder":
        return [str(file)]
    try:
        found = list_volumes(file)
    except FormatError:
        inside = [name for folder in _folders(file) for name in _volumes_in(folder)]
        if not inside:
            raise
        return inside
    return [str(file)] if content_of(file).one_volume else list(map(str, found))


def is_folder_of_volumes(path: Path, folders: str = "auto") -> bool:
    """Return whether a path is a folder of several volumes, and not itself a volume.

    Raises
    ------
    FormatError
        If it holds no volume, or slices that do not fit together.
    """
    if not path.is_dir() or kind_to_read(path) != "folder":
        return False
    return not content_of(path, folders).one_volume


def _is_one_volume(folder: Path, found: list[Path]) -> bool:
    """Return whether the PNG or TIFF files in a folder are slices of one volume.

    Raises
    ------
    FormatError
        If they are named like slices and do not fit together.
    """
    if (folder / NOTES_FILE).is_file():
        return True  # written as one
    roles = {role_of(path) for path in found}
    stems = {stem_of(path) for path in found}
    if len(roles) > 1 and len(stems) < len(found):
        return False  # pairs of images and labels, or what belongs to one volume
    if len(found) == 1 or not may_be_series(found):
        return False
    try:
        return open_volume(folder).shape[0] == len(found)
    except AxisError:  # the first file alone is a stack, or in colour
        return False
    except FormatError:
        if open_volume(found[0]).shape[0] == 1:
            raise
        return False  # the names of stacks need no number


def _is_record(path: Path) -> bool:
    try:
        return isinstance(read_mapping(path).get("segmentation"), dict)
    except ConfigError:
        return False


def _folders(place: Path) -> list[Path]:
    """Return the folders in a folder, in natural order; hidden ones do not count."""
    found = [each for each in place.iterdir() if each.is_dir()]
    shown = [each for each in found if not each.name.startswith(".")]
    return sorted(shown, key=lambda each: natural_key(each.name))


def _volumes_in(folder: Path) -> list[str]:
    """Return what a folder stands for; nothing for one without volumes."""
    try:
        list_volumes(folder)
    except FormatError:
        return []
    return volumes_at(folder)
